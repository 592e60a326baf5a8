"""transformers' Trainer on prompts with their compared images: order, schedule, engine, best weights and checkpoints
are its own; the loss is Bradley-Terry, and an image is read once for all its pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import EvalPrediction, PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainingArguments

from ...base.errors import PrefmillError
from ...engine.image_inputs import ImagePreprocessing
from ..arguments import shared_arguments
from ..step_reporter import StepReporter
from ..tracking import tracking_callbacks
from ..zero2 import zero2_config
from .batches import ComparedPrompts, RewardBatches
from .data import compared_prompts
from .features import fill_features
from .job import RewardJob
from .network import RewardNetwork
from .objective import compare, means, sums_by_prompt


class RewardTrainer(Trainer):
    """See the module."""

    loss_is_scaled_for_ga = False

    def __init__(self, job: RewardJob, network: RewardNetwork, batches: RewardBatches, **settings: Any) -> None:
        prompts = compared_prompts(job.pairs)
        super().__init__(
            model=cast(Any, network),
            data_collator=batches,
            train_dataset=ComparedPrompts(prompts),
            eval_dataset=ComparedPrompts(compared_prompts(job.held_out)) if job.held_out else None,
            compute_metrics=self._evaluation,
            **settings,
        )
        self.job, self.network, self.batches = job, network, batches
        self.pairs_per_prompt = len(job.pairs) / len(prompts)
        self._window: list[torch.Tensor] = []

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of a micro-batch (see objective.py). Raises PrefmillError for a reward that is no number."""
        loss, sums = self._compare(model, inputs)
        self._window.append(sums.detach().sum(0))
        return loss / (len(inputs["counts"]) * self.pairs_per_prompt)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[None, torch.Tensor, torch.Tensor]:
        """Return the sums of prompts held out, twice: as what transformers takes for predictions and labels."""
        with torch.no_grad(), self.compute_loss_context_manager():
            _, sums = self._compare(model, self._prepare_inputs(inputs))
        return None, sums, sums

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Put the means over all pairs since the last line in the place of the trainer's own mean of losses."""
        if self._window and "loss" in logs:
            sums = cast(torch.Tensor, self.accelerator.reduce(torch.stack(self._window).sum(0), "sum"))
            logs |= means(sums, self.batches.aspects) | {"pairs": round(float(sums[:, 3].sum()))}
            self._window = []
        super().log(logs, start_time)

    def read(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features of pixels, as a step makes them."""
        with self.compute_loss_context_manager():
            inputs = self._prepare_inputs({"model": {"pixels": pixels}})
            return self.network.features(inputs["model"]["pixels"])

    @torch.no_grad()
    def raw_rewards(self) -> torch.Tensor:
        """Return the raw rewards [I, H] of all images that were trained on, each with its prompt."""
        rewards = []
        self.network.eval()
        prompts = cast(ComparedPrompts, self.train_dataset).prompts
        for start in range(0, len(prompts), self.args.per_device_eval_batch_size):
            inputs = self._prepare_inputs(self.batches(prompts[start : start + self.args.per_device_eval_batch_size]))
            with self.compute_loss_context_manager():
                rewards.append(self.network(**inputs["model"]).double().cpu())
        return torch.cat(rewards)

    def _compare(self, model: Any, inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rewards = model(**inputs["model"])
        self._require_numbers(rewards, inputs["images"])
        compared = compare(rewards, inputs["pairs"], self.job.config.label_smoothing)
        sums = sums_by_prompt(compared, inputs["pairs"], len(inputs["counts"]), len(self.batches.aspects))
        return compared.loss.sum(), sums

    def _evaluation(self, prediction: EvalPrediction) -> dict[str, float]:
        return means(torch.from_numpy(cast(Any, prediction.predictions)).sum(0), self.batches.aspects)

    def _require_numbers(self, rewards: torch.Tensor, images: Sequence[str]) -> None:
        finite = rewards.isfinite().all(1)
        if not finite.all():
            row = int((~finite).nonzero()[0])
            raise PrefmillError(
                f"the reward of image {images[row]} is {rewards[row].tolist()} at step {self.state.global_step} "
                f"(precision {self.job.precision})",
                f"lower learning_rate below {self.job.config.learning_rate:g}, or set precision=float32",
            )

    def _prepare_inputs(self, inputs: Any) -> Any:
        """Put a batch on the device. Under DeepSpeed the trainer also rounds it: the network's part alone may be."""
        prepared = super()._prepare_inputs({"model": inputs["model"]})
        if "pairs" in inputs:
            pairs = type(inputs["pairs"])(*(column.to(self.args.device) for column in inputs["pairs"]))
            prepared |= {"pairs": pairs, "counts": inputs["counts"], "images": inputs["images"]}
        return prepared


class _FeatureFiller(TrainerCallback):
    """Has the cache filled when the engine stands and before the first step is timed."""

    trainer: RewardTrainer

    def __init__(self, reporter: StepReporter) -> None:
        self.reporter = reporter

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.reporter.notes.append(fill_features(self.trainer))


def build_trainer(job: RewardJob, network: RewardNetwork, tokenizer: PreTrainedTokenizerBase) -> RewardTrainer:
    """Return the trainer of a network."""
    config = job.config
    batches = RewardBatches(
        tokenizer,
        job.images,
        ImagePreprocessing(network.image_size),
        config.aspects,
        per_aspect=config.heads == "per_aspect",
        weights=job.weights,
    )
    reporter = StepReporter(job, "reward")
    filler = _FeatureFiller(reporter)
    steps = config.evaluation_steps(len({one.prompt_id for one in job.pairs}))
    arguments = shared_arguments(job) | {"save_steps": steps, "eval_strategy": "no"}
    if config.zero_stage:
        arguments["deepspeed"] = zero2_config(network.heads.in_features)
    if job.held_out:
        arguments |= {
            "eval_strategy": "steps",
            "eval_steps": steps,
            "load_best_model_at_end": True,
            "metric_for_best_model": f"eval_{config.best_by}",
            "greater_is_better": config.best_by == "accuracy",
        }
    trainer = RewardTrainer(
        job,
        network,
        batches,
        args=TrainingArguments(**arguments),
        callbacks=[filler, reporter, *tracking_callbacks(job)],
    )
    reporter.trainer = filler.trainer = trainer
    return trainer
