"""Per-token log-probabilities of a language-model head, without keeping its logits: what every preference loss needs.

    z_iv = h_i . W_v + b_v,   logp_i = z_i,y_i - log sum_v exp z_iv,   d logp_i / d h_i = U_i = W[y_i] - softmax(z_i) W

With a frozen head (LoRA, projector or vision training) U does not depend on the loss, so the forward makes it while
the logits are at hand, and the backward is one scale per row, exact for any loss over log-probabilities: 4NDV in
all, where recomputing the logits in the backward costs 6NDV, and N x D saved where materialising saves N x V. A pass
without gradients is 2NDV. A head that is trained itself takes 8NDV: its gradient needs the loss's gradient first, so
the backward makes the logits again; it is supported, in float32 sums, and slower.

Rows with an ignored target give 0 and no gradient, whatever they hold. Log-probabilities are never positive. Results
repeat bit for bit. On a CPU the work is done in `tiles.py`, on a GPU in `rows.py`, where nothing is read back: targets
are checked on the host (`check_targets`), and one that is no column of the head has log-probability -inf.
"""

from typing import NamedTuple

import torch

from ..operation import Case, Inputs, Mode, Op
from ..triton_support import runs_triton
from .autograd import token_pass
from .head import IGNORED, Head, narrowed
from .rows import BUILDS


class TokenStatistics(NamedTuple):
    """logp [N] in float32; entropy [N] in nats; hit [N]: the target is the first largest logit. 0 where ignored.

    Only logp carries gradients.
    """

    logp: torch.Tensor
    entropy: torch.Tensor
    hit: torch.Tensor


def token_logprobs(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    bias: torch.Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> torch.Tensor:
    """Log-probability [N] of each target under the head; 0 where the target is -100.

    Differentiable in hidden, and in weight and bias where they require gradients (slower, see the module).
    Raises ValueError for shapes and types that do not fit and, on a CPU, for what `check_targets` refuses.
    """
    logp, *_ = _evaluate(hidden_ND, weight_VD, targets_N, bias, temperature, softcap, extras=False)
    return logp


def token_statistics(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    bias: torch.Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> TokenStatistics:
    """`token_logprobs` with the entropy and the argmax hit of every row from the same pass."""
    return TokenStatistics(*_evaluate(hidden_ND, weight_VD, targets_N, bias, temperature, softcap, extras=True))


def token_logprobs_reference(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    bias: torch.Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> torch.Tensor:
    """The same in one line of textbook: the logits of all rows, in memory, and autograd."""
    logits = torch.nn.functional.linear(hidden_ND, weight_VD, bias)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    kept = targets_N != IGNORED
    logps = torch.log_softmax(logits / temperature, -1)
    return logps.gather(-1, targets_N.where(kept, 0)[:, None]).squeeze(-1) * kept


def check_arguments(hidden: torch.Tensor, head: Head, targets: torch.Tensor) -> None:
    """Raise ValueError where shapes or types do not fit together."""
    if hidden.ndim != 2 or head.weight.ndim != 2 or hidden.shape[1] != head.weight.shape[1]:
        raise ValueError(
            f"hidden {list(hidden.shape)} and weight {list(head.weight.shape)} must be [N, D] and [V, D]; "
            "flatten leading dimensions with hidden.flatten(0, -2)"
        )
    if targets.shape != hidden.shape[:1] or targets.dtype != torch.int64:
        raise ValueError(f"targets must be int64 [{len(hidden)}], not {targets.dtype} {list(targets.shape)}")
    if head.bias is not None and head.bias.shape != head.weight.shape[:1]:
        raise ValueError(f"bias must be [{len(head.weight)}], not {list(head.bias.shape)}")
    if not head.temperature > 0 or (head.softcap is not None and not head.softcap > 0):
        raise ValueError(f"temperature {head.temperature} and softcap {head.softcap} must be positive")
    types = (torch.float32, torch.float16, torch.bfloat16) + (() if runs_triton(hidden) else (torch.float64,))
    if hidden.dtype not in types:
        raise ValueError(f"hidden is {hidden.dtype}; cast it to one of {[str(t) for t in types]}")


def _evaluate(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    bias: torch.Tensor | None,
    temperature: float,
    softcap: float | None,
    *,
    extras: bool,
) -> tuple[torch.Tensor, ...]:
    head = Head(weight, bias, float(temperature), softcap)
    check_arguments(hidden, head, targets)
    device = hidden.device.type
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if autocast and hidden.dtype != torch.float64:
        hidden = hidden.to(torch.get_autocast_dtype(device))
    if runs_triton(hidden):  # a CPU casts tile by tile, in its cache
        weight = narrowed(weight, hidden.dtype)
    residual = torch.is_grad_enabled() and hidden.requires_grad
    found = token_pass(hidden, weight, bias, targets, head.temperature, softcap, residual, extras)
    return found[:3]


def _make(case: Case, device: torch.device) -> Inputs:
    """Rows and weights whose logits have a spread of about 2, as those of a trained head, so p_y is often near 1."""
    draw = torch.Generator().manual_seed(0)
    rows, width, vocabulary = case.sizes["N"], case.sizes["D"], case.sizes["V"]
    targets = torch.randint(vocabulary, (rows,), generator=draw)
    weight = torch.randn(vocabulary, width, generator=draw) * 2 / width**0.5
    hidden = torch.randn(rows, width, generator=draw)
    hidden[::2] += 3 * weight[targets[::2]]  # every second row is confident
    return {
        "hidden_ND": hidden.to(device, case.dtype),
        "weight_VD": weight.to(device, case.dtype),
        "targets_N": targets.to(device),
        **case.options,
    }


def _flops(case: Case, mode: Mode) -> float:
    product = 2.0 * case.sizes["N"] * case.sizes["D"] * case.sizes["V"]
    return {"forward": product, "backward": product, "both": 2 * product}[mode]


def _traffic(case: Case, mode: Mode) -> float:
    rows, width = case.sizes["N"], case.sizes["D"]
    once = (case.sizes["V"] * width + rows * width) * case.dtype.itemsize
    return {"forward": once, "backward": 2 * rows * width * case.dtype.itemsize, "both": 2 * once}[mode]


OP = Op(
    name="logprob",
    public=token_logprobs,
    reference=token_logprobs_reference,
    make=_make,
    cases=(
        Case("one pair", {"N": 300, "D": 1024, "V": 32_000}),
        Case("four pairs", {"N": 1024, "D": 512, "V": 32_000}),
        Case("large vocabulary", {"N": 128, "D": 256, "V": 128_256}),
        Case("one pair", {"N": 300, "D": 1024, "V": 32_000}, torch.bfloat16),
        Case("four pairs", {"N": 1024, "D": 512, "V": 32_000}, torch.bfloat16),
    ),
    gpu_cases=tuple(
        Case("head", {"N": rows, "D": 4096, "V": vocabulary}, torch.bfloat16)
        for vocabulary in (32_000, 128_256)
        for rows in (300, 1024, 4096, 16_384)
    ),
    flops=_flops,
    traffic=_traffic,
    bound="compute",
    builds=BUILDS,
    differentiable=("hidden_ND",),
    variants=(token_statistics,),
)
