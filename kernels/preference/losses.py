"""Preference losses on packed tokens: sequence sums, reference margin, loss, its derivatives and metrics in one pass.

Tokens of all sequences lie in one row, in the order of their segment. Of B pairs, segment b is the chosen answer,
B + b the rejected one, and, where an image-conditional term is asked for, 2B + b the chosen answer seen with a
corrupted image. With c, r, k the differences of a pair's summed log-probabilities to the reference, n its lengths,
D = c - r and s the logistic function:

    sigmoid       -(1-e) log s(bD) - e log s(-bD)              DPO, arXiv 2305.18290; e > 0: its conservative form
    robust        (-(1-e) log s(bD) + e log s(-bD)) / (1-2e)   arXiv 2403.00409
    hinge         max(0, 1 - bD)                               SLiC, arXiv 2305.10425
    ipo           (c/n_c - r/n_r - 1/(2b))^2                   arXiv 2310.12036, per token as its authors advise
    sigmoid_norm  -log s(b (c/n_c - r/n_r))                    arXiv 2411.15124
    apo_zero      1 - s(bc) + s(br)                            arXiv 2408.06266
    apo_down      s(bc) + 1 - s(bD)
  plus, for images (mDPO, arXiv 2406.11839):
    image         w_i * -log s(b (c - k))
    anchor        w_a * -log s(bc - delta)

The derivatives by c, r and k are constants per segment, so the backward is one gather.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from ..operation import Case, Inputs, Mode, Op
from ..triton_support import runs_triton
from .kernel import BUILDS, LOSSES, launch

Loss = Literal["sigmoid", "robust", "hinge", "ipo", "sigmoid_norm", "apo_zero", "apo_down"]


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
    `image_weight` is not 0. Raises ValueError for arguments that do not fit and for a segment without tokens.
    """
    segments = pairs * (3 if image_weight else 2)
    _check(logps_N, segments_N, segments, reference_N, reference_S, loss, beta, label_smoothing)
    borders = torch.searchsorted(segments_N, torch.arange(segments + 1, device=segments_N.device))
    if bool((borders.diff() == 0).any()):
        empty = (borders.diff() == 0).nonzero()[0].item()
        raise ValueError(f"segment {empty} has no tokens; drop its pair before training on it")
    settings = (loss, beta, label_smoothing, image_weight, anchor_weight, anchor_margin)
    reference = reference_N if reference_S is None else reference_S
    return Preference(*_Preference.apply(logps_N, segments_N, borders, reference, reference_S is not None, settings))  # type: ignore[misc]


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
    kept = segments_N >= 0
    segments, count = segments_N[kept], pairs * (3 if image_weight else 2)

    def summed(values: torch.Tensor) -> torch.Tensor:
        wide = values if values.dtype == torch.float64 else values.float()
        return wide.new_zeros(count).index_add(0, segments, wide[kept])

    if reference_S is None:
        assert reference_N is not None
        reference_S = summed(reference_N)
    settings = (loss, beta, label_smoothing, image_weight, anchor_weight, anchor_margin)
    return _of_sums(summed(logps_N), reference_S, torch.bincount(segments, minlength=count), pairs, settings)


def _of_sums(
    sums: torch.Tensor, reference: torch.Tensor, tokens: torch.Tensor, pairs: int, settings: tuple[Any, ...]
) -> Preference:
    """The formulas of the module, on sums per segment [S]."""
    loss, beta, smoothing, image_weight, anchor_weight, anchor_margin = settings
    ratios = sums - reference.to(sums.dtype)
    chosen, rejected = ratios[:pairs], ratios[pairs : 2 * pairs]
    per_token = ratios / tokens
    delta, mean_delta = chosen - rejected, per_token[:pairs] - per_token[pairs : 2 * pairs]
    kept, flipped = _log_s(beta * delta), _log_s(-beta * delta)
    losses = {
        "sigmoid": lambda: -(1 - smoothing) * kept - smoothing * flipped,
        "robust": lambda: (smoothing * flipped - (1 - smoothing) * kept) / (1 - 2 * smoothing),
        "hinge": lambda: torch.relu(1 - beta * delta),
        "ipo": lambda: torch.square(mean_delta - 1 / (2 * beta)),
        "sigmoid_norm": lambda: -_log_s(beta * mean_delta),
        "apo_zero": lambda: torch.sigmoid(-beta * chosen) + torch.sigmoid(beta * rejected),
        "apo_down": lambda: torch.sigmoid(beta * chosen) + torch.sigmoid(-beta * delta),
    }
    value = losses[loss]()
    if image_weight:
        value = value - image_weight * _log_s(beta * (chosen - ratios[2 * pairs :]))
    if anchor_weight:
        value = value - anchor_weight * _log_s(beta * chosen - anchor_margin)
    rewards, sums = (beta * ratios).detach(), sums.detach()
    margin = (beta * delta).detach()
    accuracy = (margin > 0).to(margin.dtype)
    return Preference(
        value, rewards[:pairs], rewards[pairs : 2 * pairs], margin, accuracy, sums, sums / tokens, tokens.to(sums.dtype)
    )


def _log_s(value: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.logsigmoid(value)


def _check(
    logps: torch.Tensor,
    segments: torch.Tensor,
    count: int,
    reference_n: torch.Tensor | None,
    reference_s: torch.Tensor | None,
    loss: str,
    beta: float,
    label_smoothing: float,
) -> None:
    if logps.ndim != 1 or segments.shape != logps.shape or segments.dtype != torch.int64:
        raise ValueError(f"log-probabilities {list(logps.shape)} and int64 segments {list(segments.shape)} must be [N]")
    if (reference_n is None) == (reference_s is None):
        raise ValueError("give the reference's log-probabilities as reference_N or as reference_S, and not both")
    if reference_n is not None and reference_n.shape != logps.shape:
        raise ValueError(f"reference_N must be [{len(logps)}], not {list(reference_n.shape)}")
    if reference_s is not None and reference_s.shape != (count,):
        raise ValueError(f"reference_S must be [{count}], not {list(reference_s.shape)}")
    if loss not in LOSSES:
        raise ValueError(f"{loss!r} is no loss; choose from {', '.join(LOSSES)}")
    if not beta > 0 or not 0 <= label_smoothing < 0.5:
        raise ValueError(f"beta {beta} must be positive and label_smoothing {label_smoothing} in [0, 0.5)")
    if label_smoothing and loss not in ("sigmoid", "robust"):
        raise ValueError(f"{loss} has no label smoothing; use sigmoid or robust")
    if len(segments) and (bool((segments.diff() < 0).any()) or int(segments[-1]) >= count or int(segments[0]) < -1):
        raise ValueError(f"segments must not fall and lie in -1 .. {count - 1}; sort the tokens by segment")


class _Preference(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logps: Any, segments: Any, borders: Any, reference: Any, summed: bool, settings: Any) -> Any:
        pairs = (len(borders) - 1) // (3 if settings[3] else 2)
        if runs_triton(logps):
            per_pair, per_segment = launch(logps, reference, borders, pairs, summed, settings)
        else:
            per_pair, per_segment = _in_torch(logps, reference, borders, pairs, summed, settings)
        slopes, sums, means, tokens = per_segment
        ctx.save_for_backward(segments, slopes)
        ctx.pairs, ctx.type = pairs, logps.dtype
        loss, *metrics = per_pair
        outputs = (loss, *metrics, sums, means, tokens)
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:  # type: ignore[override]
        segments, slopes = ctx.saved_tensors
        per_segment = slopes * gradients[0].repeat(len(slopes) // ctx.pairs)
        # one more, of zero, for tokens of segment -1
        gradient = torch.cat([per_segment, per_segment.new_zeros(1)])[segments]
        return gradient.to(ctx.type), *[None] * 5


def _in_torch(
    logps: torch.Tensor,
    reference: torch.Tensor,
    borders: torch.Tensor,
    pairs: int,
    summed: bool,
    settings: tuple[Any, ...],
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The CPU path: the formulas on segment sums, whose slopes autograd finds on [S] numbers."""
    wide = torch.float64 if logps.dtype == torch.float64 else torch.float32

    def totals(values: torch.Tensor) -> torch.Tensor:
        running = torch.nn.functional.pad(values.double().cumsum(0), (1, 0))
        return running[borders].diff().to(wide)

    reference = reference if summed else totals(reference)
    with torch.enable_grad():
        leaf = totals(logps).requires_grad_()
        got = _of_sums(leaf, reference, borders.diff(), pairs, settings)
        (slopes,) = torch.autograd.grad(got.loss.sum(), leaf)
    return [got.loss.detach(), *got[1:5]], [slopes, *got[5:]]


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


OP = Op(
    name="preference",
    public=preference_loss,
    reference=preference_loss_reference,
    make=_make,
    cases=(
        *(Case(loss, {"pairs": 64}, options={"loss": loss}) for loss in LOSSES),
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
