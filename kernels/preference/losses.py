"""Preference losses on packed tokens: sequence sums, reference margin, loss, its derivatives and metrics in one pass.

Tokens of all sequences lie in one row, in the order of their segment. Of B pairs, segment b is the chosen answer,
B + b the rejected one, and, where an image-conditional term is asked for, 2B + b the chosen answer seen with a
corrupted image. `formulas.py` has the losses. Their derivatives are constants per segment, so the backward is one
gather. Nothing is read back from a GPU: what segments must be is checked on the host (`check_segments`).
"""

from typing import Any, Literal, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from ..operation import Case, Inputs, Mode, Op
from ..registration import register
from ..triton_support import runs_triton
from .formulas import LOSSES, SMOOTHED, Answers, Terms, losses, slopes
from .kernel import BUILDS, launch

Loss = Literal[
    "sigmoid",
    "robust",
    "exo_pair",
    "hinge",
    "ipo",
    "sigmoid_norm",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
]


class Preference(NamedTuple):
    """Per pair [B] in float32: the loss (differentiable), and of the same pass, without gradients:

    rewards of the chosen and the rejected answer (beta times the difference to the reference), their margin, and
    whether the chosen one's is larger; per segment [S]: summed and mean log-probability, and the number of tokens.
    """

    loss: torch.Tensor
    chosen_reward: torch.Tensor
    rejected_reward: torch.Tensor
    margin: torch.Tensor
    accuracy: torch.Tensor
    sums: torch.Tensor
    means: torch.Tensor
    tokens: torch.Tensor


def preference_loss(
    logps_N: torch.Tensor,
    segments_N: torch.Tensor,
    pairs: int,
    *,
    reference_N: torch.Tensor | None = None,
    reference_S: torch.Tensor | None = None,
    loss: Loss = "sigmoid",
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    image_weight: float = 0.0,
    anchor_weight: float = 0.0,
    anchor_margin: float = 0.0,
) -> Preference:
    """Loss per pair from policy log-probabilities [N] and the reference's, per token [N] or summed per segment [S].

    `segments_N` never falls, and holds -1 (first) for tokens that belong to none; S is 2 `pairs`, or 3 where
    `image_weight` is not 0. Raises ValueError for arguments that do not fit and, on a CPU, for what `check_segments`
    refuses; on a GPU a pair with an answer without tokens has loss NaN.
    """
    terms = Terms(loss, beta, label_smoothing, image_weight, anchor_weight, anchor_margin)
    _check(logps_N, segments_N, pairs * (3 if image_weight else 2), reference_N, reference_S, terms)
    reference = reference_N if reference_S is None else reference_S
    value, per_pair, per_segment = _preference(
        logps_N, segments_N, reference, pairs, reference_S is not None, loss, *map(float, terms[1:])
    )
    return Preference(value, *per_pair, *per_segment[1:])


def check_segments(segments_N: torch.Tensor, segments: int) -> None:
    """Raise ValueError unless segments never fall, lie in -1 .. `segments` - 1, and have a token each.

    Reads values: for tensors on the host, by whoever lays tokens out.
    """
    if len(segments_N) and (
        bool((segments_N.diff() < 0).any()) or int(segments_N[-1]) >= segments or int(segments_N[0]) < -1
    ):
        raise ValueError(f"segments must not fall and lie in -1 .. {segments - 1}; sort the tokens by segment")
    empty = (torch.bincount(segments_N + 1, minlength=segments + 1)[1:] == 0).nonzero()
    if len(empty):
        raise ValueError(f"segment {int(empty[0])} has no tokens; drop its pair before training on it")


def preference_loss_reference(
    logps_N: torch.Tensor,
    segments_N: torch.Tensor,
    pairs: int,
    *,
    reference_N: torch.Tensor | None = None,
    reference_S: torch.Tensor | None = None,
    loss: Loss = "sigmoid",
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    image_weight: float = 0.0,
    anchor_weight: float = 0.0,
    anchor_margin: float = 0.0,
) -> Preference:
    """The same in plain torch, differentiated by autograd."""
    places, count = segments_N + 1, pairs * (3 if image_weight else 2)

    def summed(values: torch.Tensor) -> torch.Tensor:
        wide = values if values.dtype == torch.float64 else values.float()
        return torch.index_add(wide.new_zeros(count + 1), 0, places, wide)[1:]  # the first is of no segment

    if reference_S is None:
        assert reference_N is not None
        reference_S = summed(reference_N)
    terms = Terms(loss, beta, label_smoothing, image_weight, anchor_weight, anchor_margin)
    sums, tokens = summed(logps_N), summed(torch.ones_like(logps_N))
    own = Answers.of(sums, reference_S, tokens, pairs)
    return Preference(losses(own, terms), *_metrics(own, beta), *_per_segment(sums, tokens))


def _metrics(own: Answers, beta: float) -> tuple[torch.Tensor, ...]:
    chosen, rejected = (beta * own.chosen).detach(), (beta * own.rejected).detach()
    margin = (beta * (own.chosen - own.rejected)).detach()
    return chosen, rejected, margin, (margin > 0).to(margin.dtype)


def _per_segment(sums: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
    sums = sums.detach()
    return sums, sums / tokens, tokens.to(sums.dtype)


def _check(
    logps: torch.Tensor,
    segments: torch.Tensor,
    count: int,
    reference_n: torch.Tensor | None,
    reference_s: torch.Tensor | None,
    terms: Terms,
) -> None:
    if logps.ndim != 1 or segments.shape != logps.shape or segments.dtype != torch.int64:
        raise ValueError(f"log-probabilities {list(logps.shape)} and int64 segments {list(segments.shape)} must be [N]")
    if (reference_n is None) == (reference_s is None):
        raise ValueError("give the reference's log-probabilities as reference_N or as reference_S, and not both")
    if reference_n is not None and reference_n.shape != logps.shape:
        raise ValueError(f"reference_N must be [{len(logps)}], not {list(reference_n.shape)}")
    if reference_s is not None and reference_s.shape != (count,):
        raise ValueError(f"reference_S must be [{count}], not {list(reference_s.shape)}")
    if terms.loss not in LOSSES:
        raise ValueError(f"{terms.loss!r} is no loss; choose from {', '.join(LOSSES)}")
    smoothing = terms.label_smoothing
    if not terms.beta > 0 or not 0 <= smoothing < 0.5:
        raise ValueError(f"beta {terms.beta} must be positive and label_smoothing {smoothing} in [0, 0.5)")
    if smoothing and terms.loss not in SMOOTHED:
        raise ValueError(f"{terms.loss} has no label smoothing; use {', '.join(SMOOTHED[:-1])} or {SMOOTHED[-1]}")
    if not smoothing and terms.loss == "exo_pair":
        raise ValueError("exo_pair needs label_smoothing above 0; its authors use 0.001")


@register("preference_loss")
def _preference(
    logps: torch.Tensor,
    segments: torch.Tensor,
    reference: torch.Tensor,
    pairs: int,
    summed: bool,
    loss: str,
    beta: float,
    label_smoothing: float,
    image_weight: float,
    anchor_weight: float,
    anchor_margin: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses [B]; rewards, margin and accuracy [4, B]; derivative of the loss, sum, mean and tokens [4, S]."""
    terms = Terms(loss, beta, label_smoothing, image_weight, anchor_weight, anchor_margin)
    count = pairs * (3 if image_weight else 2)
    if logps.device.type == "cpu":
        check_segments(segments, count)
    borders = torch.searchsorted(segments, torch.arange(count + 1, device=segments.device))
    if runs_triton(logps):
        return launch(logps, reference, borders, pairs, summed, terms)
    wide = _wide(logps)

    def totals(values: torch.Tensor) -> torch.Tensor:
        running = torch.nn.functional.pad(values.double().cumsum(0), (1, 0))
        return running[borders].diff().to(wide)

    sums, tokens = totals(logps), borders.diff()
    own = Answers.of(sums, reference if summed else totals(reference), tokens, pairs)
    per_segment = torch.stack([slopes(own, terms), *_per_segment(sums, tokens)])
    return losses(own, terms), torch.stack(_metrics(own, beta)), per_segment


@_preference.register_fake
def _shapes(logps: Any, segments: Any, reference: Any, pairs: int, *settings: Any) -> Any:
    wide, count = _wide(logps), pairs * (3 if settings[4] else 2)
    return tuple(logps.new_empty(shape, dtype=wide) for shape in ((pairs,), (4, pairs), (4, count)))


def _wide(logps: torch.Tensor) -> torch.dtype:
    return torch.float64 if logps.dtype == torch.float64 and not runs_triton(logps) else torch.float32


def _remember(ctx: Any, inputs: Any, output: Any) -> None:
    logps, segments, *_ = inputs
    _, per_pair, per_segment = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(per_pair, per_segment)
    ctx.save_for_backward(segments, per_segment)
    ctx.pairs, ctx.type = len(per_pair[0]), logps.dtype


@once_differentiable
def _backward(ctx: Any, gradient: Any, *_: Any) -> Any:
    if gradient is None:
        return (None,) * 11
    segments, per_segment = ctx.saved_tensors
    slopes = per_segment[0]
    weighted = slopes * gradient.repeat(len(slopes) // ctx.pairs)
    # one more, of zero, for tokens of segment -1
    return torch.cat([weighted, weighted.new_zeros(1)])[segments].to(ctx.type), *[None] * 10


_preference.register_autograd(_backward, setup_context=_remember)


def _make(case: Case, device: torch.device) -> Inputs:
    """Answers of 20 to 280 tokens, a few of them prompt tokens that belong to no segment."""
    draw = torch.Generator().manual_seed(0)
    pairs = case.sizes["pairs"]
    count = pairs * (3 if case.options.get("image_weight") else 2)
    lengths = torch.randint(20, 280, (count + 1,), generator=draw)
    segments = torch.repeat_interleave(torch.arange(-1, count), lengths)
    logps = -2 * torch.rand(len(segments), generator=draw)
    reference = logps + 0.2 * torch.randn(len(segments), generator=draw)
    return {
        "logps_N": logps.to(device, case.dtype),
        "segments_N": segments.to(device),
        "pairs": pairs,
        "reference_N": reference.to(device),
        **case.options,
    }


def _flops(case: Case, mode: Mode) -> float:
    return {"forward": 2.0, "backward": 1.0, "both": 3.0}[mode] * 300 * case.sizes["pairs"]


def _traffic(case: Case, mode: Mode) -> float:
    tokens = 300.0 * case.sizes["pairs"]
    forward, backward = tokens * (case.dtype.itemsize + 4 + 8), tokens * (case.dtype.itemsize + 8)
    return {"forward": forward, "backward": backward, "both": forward + backward}[mode]


def options_of(loss: str) -> dict[str, Any]:
    """What `preference_loss` needs to be told for a loss."""
    return {"loss": loss, "label_smoothing": 0.001} if loss == "exo_pair" else {"loss": loss}


OP = Op(
    name="preference",
    public=preference_loss,
    reference=preference_loss_reference,
    make=_make,
    cases=(
        *(Case(loss, {"pairs": 64}, options=options_of(loss)) for loss in LOSSES),
        Case("mdpo", {"pairs": 64}, options={"image_weight": 1.0, "anchor_weight": 1.0}),
        Case("sigmoid", {"pairs": 64}, torch.bfloat16),
    ),
    gpu_cases=(
        Case("sigmoid", {"pairs": 4096}),
        Case("mdpo", {"pairs": 4096}, options={"image_weight": 1.0, "anchor_weight": 1.0}),
    ),
    flops=_flops,
    traffic=_traffic,
    bound="memory",
    builds=BUILDS,
    differentiable=("logps_N",),
)
