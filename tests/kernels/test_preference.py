"""Preference losses against TRL's own trainer, autograd in float64, and their edges."""

import math
from typing import Any

import pytest
import torch
from datasets import Dataset
from prefmill.kernels.logprob.tokens import token_logprobs
from prefmill.kernels.operation import Case
from prefmill.kernels.preference.formulas import LOSSES
from prefmill.kernels.preference.losses import OP, options_of, preference_loss, preference_loss_reference
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from .truth import squared_errors

CPU = torch.device("cpu")
MDPO = {"image_weight": 0.7, "anchor_weight": 1.3, "anchor_margin": 0.2}
VARIANTS = [
    *(options_of(loss) for loss in LOSSES),
    {"loss": "sigmoid", "label_smoothing": 0.1},
    {"loss": "robust", "label_smoothing": 0.2},
    {"loss": "exo_pair", "label_smoothing": 0.3},
    {"loss": "sigmoid", **MDPO},
    {"loss": "ipo", **MDPO},
]


def inputs(options, dtype=torch.float32):
    return OP.make(Case("test", {"pairs": 7}, dtype, options), CPU)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_error_is_at_most_the_references(options, dtype):
    given = inputs(options, dtype)
    for name, (ours, reference) in zip(
        ("loss", "logps_N"),
        squared_errors(preference_loss, preference_loss_reference, given, ("logps_N",)),
        strict=True,
    ):
        assert ours <= reference, name


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_metrics_and_both_forms_of_reference(options):
    given = inputs(options)
    ours, expected = preference_loss(**given), preference_loss_reference(**given)
    for name, mine, theirs in zip(ours._fields, ours, expected, strict=True):
        scale = max(1.0, float(theirs.abs().max()))  # a square near 0 has the rounding of what was squared
        torch.testing.assert_close(mine, theirs, atol=2e-5 * scale, rtol=2e-5, msg=name)
    sums = preference_loss_reference(
        **given | {"logps_N": given["reference_N"], "reference_N": torch.zeros_like(given["reference_N"])}
    ).sums
    again = preference_loss(**given | {"reference_N": None, "reference_S": sums})
    scale = max(1.0, float(ours.loss.abs().max()))
    torch.testing.assert_close(again.loss, ours.loss, atol=2e-5 * scale, rtol=2e-5)
    assert 0 < float(ours.accuracy.mean()) < 1, "the case should hold both orders"


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    """TRL's DPO trainer on a tiny random model, with a reference that differs from it."""
    words = [f"w{number}" for number in range(60)]
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<eos>", *words])}
    raw = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    raw.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>")
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "vocab_size": len(vocabulary), "initializer_range": 0.4}

    def model(seed):
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(**sizes))

    draw = torch.Generator().manual_seed(1)

    def text(least, most):
        length = int(torch.randint(least, most, (1,), generator=draw))
        return " ".join(words[int(word)] for word in torch.randint(60, (length,), generator=draw))

    rows = [{"prompt": text(3, 9), "chosen": " " + text(2, 12), "rejected": " " + text(2, 12)} for _ in range(6)]
    config = DPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        per_device_train_batch_size=6,
        report_to=[],
        use_cpu=True,
        bf16=False,
        label_smoothing=0.0,
        disable_tqdm=True,
        beta=0.3,
    )
    return DPOTrainer(
        model(0), model(1), args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_equals_trl_trainer(trainer, loss):
    """Loss and gradient of the trainer's own `compute_loss`, from its own batch, for both models' log-probabilities."""
    smoothing = {"robust": 0.2, "exo_pair": 0.01}.get(loss, 0.0)
    trainer.loss_types, trainer.label_smoothing = [loss], smoothing
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.zero_grad()
    expected = trainer.compute_loss(trainer.model, dict(batch))
    expected.backward()
    head = trainer.model.lm_head.weight
    theirs = head.grad.clone()

    mask = batch["completion_mask"][:, 1:].bool()
    targets = batch["input_ids"][:, 1:][mask]
    segments = torch.arange(len(mask))[:, None].expand_as(mask)[mask]
    logps = []
    for model in (trainer.model, trainer.ref_model):
        states = model.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        logps.append(token_logprobs(states[:, :-1][mask], model.lm_head.weight, targets))
    head.grad = None
    found = preference_loss(
        logps[0],
        segments,
        len(mask) // 2,
        reference_N=logps[1].detach(),
        loss=loss,
        beta=trainer.beta,
        label_smoothing=smoothing,
    ).loss.mean()
    found.backward()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(head.grad, theirs, atol=1e-6, rtol=1e-4)
    assert float(expected.detach()) not in (0.0, math.inf)


def test_finite_differences_with_every_term():
    given = inputs({"loss": "robust", "label_smoothing": 0.1, **MDPO}, torch.float64)
    sizes = torch.bincount(given["segments_N"] + 1).clamp(max=2)  # two tokens per segment keep it quick
    given["segments_N"] = torch.repeat_interleave(torch.arange(-1, len(sizes) - 1), sizes)
    given["reference_N"] = given["reference_N"][: int(sizes.sum())]
    logps = given.pop("logps_N")[: int(sizes.sum())].requires_grad_()
    assert torch.autograd.gradcheck(lambda values: preference_loss(values, **given).loss, (logps,))


@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["near", "far"])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_derivatives_in_float64(options, scale):
    """Written out by hand here, by autograd in the reference; far apart, where logistic functions saturate."""
    given = inputs(options, torch.float64)
    given["reference_N"] = given["reference_N"].double()
    given["logps_N"] = given["reference_N"] + scale * (given["logps_N"] - given["reference_N"])
    found = []
    for function in (preference_loss, preference_loss_reference):
        leaf = given["logps_N"].clone().requires_grad_()
        loss = function(**given | {"logps_N": leaf}).loss
        found.append((loss.detach(), *torch.autograd.grad((loss * torch.linspace(-1.5, 2, 7)).sum(), leaf)))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-9, rtol=1e-10)


def test_sft_is_the_mean_over_all_chosen_tokens():
    given = inputs({"loss": "sft"}, torch.float64)
    chosen = (given["segments_N"] >= 0) & (given["segments_N"] < 7)
    given["reference_N"] = given["reference_N"].double()
    expected = -given["logps_N"][chosen].mean()
    torch.testing.assert_close(preference_loss(**given).loss.mean(), expected, atol=1e-12, rtol=1e-12)


def test_tokens_of_no_segment_get_no_gradient():
    given = inputs({"loss": "sigmoid"})
    logps = given.pop("logps_N").clone().requires_grad_()
    logps.data[given["segments_N"] == -1] = -1000.0
    result = preference_loss(logps, **given)
    result.loss.sum().backward()
    assert logps.grad is not None
    outside = given["segments_N"] == -1
    assert bool(outside.any())
    assert not logps.grad[outside].any()
    assert bool((logps.grad[~outside] != 0).all())
    assert float(result.sums.min()) > -999


@pytest.mark.parametrize("loss", ["sigmoid", "discopop"])
def test_far_apart_answers_stay_finite(loss):
    """Differences of thousands of nats: no overflow, and a vanishing or constant gradient.

    TRL's discopop is no number there: infinity times a weight of 0.
    """
    segments = torch.tensor([0, 1, 2, 3])
    logps = torch.tensor([-1.0, -9000.0, -9000.0, -1.0], requires_grad=True)
    result = preference_loss(logps, segments, 2, reference_S=torch.zeros(4), beta=1.0, loss=loss)
    result.loss.sum().backward()
    torch.testing.assert_close(result.loss, torch.tensor([0.0, 8999.0]))
    assert bool(result.loss.isfinite().all())
    assert logps.grad is not None
    assert bool(logps.grad.isfinite().all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments_N": torch.tensor([0, 0, 1, 0])}, "sort the tokens"),
        ({"segments_N": torch.tensor([0, 0, 1, 2])}, "-1 .. 1"),
        ({"segments_N": torch.tensor([0, 0, 0, 0])}, "segment 1 has no tokens"),
        ({"segments_N": torch.tensor([0.0, 0.0, 1.0, 1.0])}, "int64 segments"),
        ({"reference_S": torch.zeros(2)}, "and not both"),
        ({"reference_N": None}, "give the reference"),
        ({"reference_N": torch.zeros(3)}, r"reference_N must be \[4\]"),
        ({"reference_N": None, "reference_S": torch.zeros(3)}, r"reference_S must be \[2\]"),
        ({"loss": "dpo"}, "is no loss"),
        ({"beta": 0.0}, "beta 0.0 must be positive"),
        ({"label_smoothing": 0.5, "loss": "robust"}, r"in \[0, 0.5\)"),
        ({"label_smoothing": 0.1, "loss": "ipo"}, "no label smoothing"),
        ({"loss": "exo_pair"}, "exo_pair needs label_smoothing"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    given = {"logps_N": torch.zeros(4), "segments_N": torch.tensor([0, 0, 1, 1]), "reference_N": torch.zeros(4)}
    with pytest.raises(ValueError, match=message):
        preference_loss(**(given | {"pairs": 1} | change))
