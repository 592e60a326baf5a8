"""transformers' Trainer on pairs that share their prompt: data order, schedule, engine and checkpoints are its own.

Against TRL's trainer, which is made from the same one, three things differ, and no result: a prompt is read once for
both answers, image features and the reference's log-probabilities come from caches, and only states that predict an
answer's token meet the head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from peft import PeftModel, get_peft_model
from transformers import EvalPrediction, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments, set_seed

from ...base.errors import PrefmillError
from ...kernels.logprob import TokenStatistics, token_logprobs
from ...pipeline.records import Pair
from ..adapter import AdapterSaving, lora_config, lora_targets
from ..arguments import trainer_arguments
from ..base_model import load_base
from ..job import TrainingJob
from ..reporter import Reporter
from ..tracking import tracking_callbacks
from .attention import best_way, use_pair_attention
from .batches import PairBatches
from .fill import TOLERANCE, fill
from .objective import Objective, metric_names, objective, pair_columns
from .positions import rotary_positions
from .scorer import as_scorer, scorer_class


class Pairs(torch.utils.data.Dataset[Pair]):
    """The pairs in their order."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, row: int) -> Pair:
        return self.pairs[row]


class SharedTrainer(AdapterSaving, Trainer):
    """See the module."""

    loss_is_scaled_for_ga = False

    def __init__(self, job: TrainingJob, model: PeftModel, batches: PairBatches, **settings: Any) -> None:
        super().__init__(
            model=cast(Any, model),
            data_collator=batches,
            train_dataset=Pairs(job.pairs),
            eval_dataset=Pairs(job.held_out) if job.held_out else None,
            compute_metrics=self._evaluation,
            **settings,
        )
        self.job, self.batches = job, batches
        self._window: list[tuple[list[str], Objective]] = []
        self._tokens = self._branch_tokens = 0

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of a micro-batch. Raises PrefmillError when a fresh adapter is not the reference."""
        got = self._objective(model, inputs)
        if self.state.global_step == 0 and not self._window:
            self._require_reference(got.deviation.item(), got.per_pair.mean().item())
        self._window.append((inputs["pairs"], got._replace(loss=got.loss.detach())))
        self._tokens += inputs["tokens"]
        self._branch_tokens += inputs["branch_tokens"]
        return got.loss

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[None, torch.Tensor, torch.Tensor]:
        """Return the columns of pairs that are held out, twice: as what transformers takes for predictions and labels.

        Raises PrefmillError for one whose loss is no number.
        """
        with torch.no_grad(), self.compute_loss_context_manager():
            got = self._objective(model, self._prepare_inputs(inputs))
        self._require_numbers(inputs["pairs"], got.columns)
        return None, got.columns, got.columns

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics of the steps since the last line. Raises PrefmillError for a loss that is no number."""
        if self._window and "loss" in logs:
            for ids, got in self._window:
                self._require_numbers(ids, got.columns)
            means = torch.stack([got.metrics for _, got in self._window]).mean(0)
            line = torch.cat([means, means.new_tensor([self._tokens, self._branch_tokens])])
            values = cast(torch.Tensor, self.accelerator.reduce(line, "mean")).tolist()
            tokens, branch_tokens = (round(count * self.args.world_size) for count in values[-2:])
            logs |= dict(zip(metric_names(self.job.config), values[:-2], strict=True)) | {"tokens": tokens}
            if self.job.config.image_weight:
                logs["image_branch_tokens"] = branch_tokens
            self._window, self._tokens, self._branch_tokens = [], 0, 0
        super().log(logs, start_time)

    def fill_caches(self) -> list[str]:
        """Fill what is missing, and return what there is to say about it."""
        return fill(self)

    def encode(self, image_inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """Return what the language model reads of images, in the precision of the training."""
        scorer: Any = self.adapted_model.get_base_model()
        with self.accelerator.autocast():
            return scorer.image_features(**self._prepare_inputs(image_inputs))

    def score(self, batch: dict[str, Any]) -> TokenStatistics:
        """Return the log-probabilities of a batch, by the way that training takes."""
        return TokenStatistics(*self.adapted_model(**cast(Any, self._prepare_inputs(batch["model"]))))

    def score_rows(self, rows: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the summed log-probabilities of ordinary rows, by the model's own attention."""
        model = cast(PreTrainedModel, self.adapted_model.get_base_model())
        model.get_decoder().set_attn_implementation("sdpa")
        try:
            with self.accelerator.autocast():
                rows = cast(Any, self._prepare_inputs(cast(Any, rows)))
                counted = rows.pop("completion_mask")[:, 1:].bool()
                states = model.base_model(**rows, use_cache=False).last_hidden_state[:, :-1]
                head = cast(torch.nn.Linear, model.get_output_embeddings())
                logps = token_logprobs(states[counted], head.weight, rows["input_ids"][:, 1:][counted])
            return torch.stack([part.sum() for part in logps.split(counted.sum(1).tolist())])
        finally:
            use_pair_attention(model, self.batches.way)

    def _objective(self, model: Any, inputs: Any) -> Objective:
        statistics = TokenStatistics(*model(**inputs["model"]))
        answers = inputs["segments"], inputs["chosen_tokens"], inputs["reference"]
        return objective(statistics, *answers, self.job.config, inputs["weights"])

    def _evaluation(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return the means over all pairs that are held out; the loss is what training lowers on the others."""
        columns = dict(zip(pair_columns(self.job.config), cast(Any, prediction.predictions).T, strict=True))
        tokens = columns.pop("chosen_tokens")
        means = {name: float(column.mean()) for name, column in columns.items()}
        means["loss"] -= self.job.config.sft_weight * float(columns["logps/chosen"].sum() / tokens.sum())
        return means

    def _prepare_inputs(self, inputs: Any) -> Any:
        """Put a batch on the device. Under DeepSpeed the trainer also rounds it: the model's part alone may be."""
        prepared = super()._prepare_inputs(inputs)
        if "model" in inputs:
            exact = {name: value for name, value in inputs.items() if name != "model" and torch.is_tensor(value)}
            prepared |= {name: value.to(self.args.device) for name, value in exact.items()}
        return prepared

    def _require_reference(self, deviation: float, loss: float) -> None:
        if not deviation <= TOLERANCE[self.job.precision]:
            raise PrefmillError(
                f"a fresh adapter is not the reference: log-probabilities differ by {deviation:.3g} per token, and "
                f"the first loss is {loss:.5f}",
                "remove the cache folder, which holds another model's numbers, or train with backend=trl",
            )

    def _require_numbers(self, ids: Sequence[str], columns: torch.Tensor) -> None:
        for pair_id, values in zip(ids, columns.tolist(), strict=True):
            # some losses are finite where a log-probability is not, and its gradient is none
            for name, value in zip(pair_columns(self.job.config), values, strict=True):
                if not math.isfinite(value):
                    raise PrefmillError(
                        f"the {name} of pair {pair_id} is {value} at step {self.state.global_step} (precision "
                        f"{self.job.precision})",
                        f"lower learning_rate below {self.job.config.learning_rate:g}, or set precision=float32",
                    )


class _Filler(TrainerCallback):
    """Has the caches filled when the engine stands and before the first step is timed."""

    trainer: SharedTrainer

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.reporter.notes += self.trainer.fill_caches()


def build_trainer(job: TrainingJob, kind: type[SharedTrainer] = SharedTrainer) -> SharedTrainer:
    """Return a trainer of this kind, with the model loaded and wrapped in its fresh adapter."""
    config = job.config
    dtype = torch.bfloat16 if job.precision == "bfloat16" else torch.float32
    model = load_base(scorer_class(job.model_folder), job)
    model = as_scorer(model, best_way(model, job.device, dtype))
    way = cast(Any, model).attention_way
    targets = lora_targets(model)
    set_seed(config.seed)  # the adapter's first values are drawn from it
    adapted = cast(PeftModel, get_peft_model(model, lora_config(config, targets)))
    # the name the user gave: the folder it was read from may be a download cache
    adapted.peft_config["default"].base_model_name_or_path = config.model
    if config.gradient_checkpointing:
        adapted.enable_input_require_grads()
    if config.disable_dropout:
        for module in adapted.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0
    reporter = Reporter(job, "shared", targets, attention=way)
    filler = _Filler(reporter)
    trainer = kind(
        job,
        adapted,
        PairBatches(job, way, rotary_positions(model)),
        args=TrainingArguments(**trainer_arguments(job)),
        callbacks=[filler, reporter, *tracking_callbacks(job)],
    )
    reporter.trainer = filler.trainer = trainer
    return trainer
