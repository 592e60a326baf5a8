"""The language-model head that log-probabilities are taken under, and the record of what they yield.

Shared by the CPU path (`tiles.py`), the GPU path (`rows.py`) and the vocabulary-parallel one.
Logits are z = softcap * tanh((h . W + b) / softcap) / temperature, the parts that are not asked for left out.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch.utils.weak import WeakIdKeyDictionary

IGNORED = -100
"""The target of a row that has none: its results are 0, and it has no gradient, whatever it holds."""
ELSEWHERE = -1
"""The target of a row whose target is none of the head's columns, as under a head that is split over processes."""


@dataclass(frozen=True)
class Head:
    """Weight [V, D], optional bias [V], and the transformation of the logits."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    temperature: float
    softcap: float | None

    @property
    def vocabulary(self) -> int:
        """V."""
        return len(self.weight)

    @property
    def inverse_temperature(self) -> float:
        """The factor by which both logits and their slope are scaled."""
        return 1.0 / self.temperature

    def wide(self, hidden: torch.Tensor) -> torch.dtype:
        """The type of everything that is not a matmul."""
        return torch.float64 if hidden.dtype == torch.float64 else torch.float32

    def product(self, hidden: torch.Tensor, weight: torch.Tensor, first: int = 0, *, out: torch.Tensor) -> torch.Tensor:
        """Hidden [R, D] times `weight` [C, D], the head's columns from `first` on, with their bias, into `out` [R, C].

        The bias joins before the result is rounded, as in `torch.nn.functional.linear`.
        """
        if self.bias is None:
            return torch.mm(hidden, weight.t(), out=out)
        bias = self.bias[first : first + len(weight)].to(hidden.dtype)
        return torch.addmm(bias, hidden, weight.t(), out=out)

    def transform_(self, logits: torch.Tensor, *, want_slope: bool) -> torch.Tensor | None:
        """Softcap and temperature, in place; the softcap's slope [R, C] on request."""
        slope = None
        if self.softcap is not None:
            logits.div_(self.softcap).tanh_()
            slope = 1 - logits.square() if want_slope else None
            logits.mul_(self.softcap)
        if self.temperature != 1:
            logits.mul_(self.inverse_temperature)
        return slope


class Statistics(NamedTuple):
    """What a pass over the vocabulary yields per row, in float32 (float64 for float64).

    logp [N] of the target (-inf where that is elsewhere), total [N] = log sum exp z, peak [N] = max z, and on request
    entropy [N], hit [N] (the target is the first largest logit) and residual [N, D] = U = d logp / d hidden. Where the
    target is ignored, logp, entropy, hit and residual are 0, total and peak finite or NaN.
    """

    logp: torch.Tensor
    total: torch.Tensor
    peak: torch.Tensor
    entropy: torch.Tensor | None
    hit: torch.Tensor | None
    residual: torch.Tensor | None

    @classmethod
    def empty(cls, hidden: torch.Tensor, wide: torch.dtype, *, residual: bool, extras: bool) -> Self:
        """Uninitialised statistics for rows [N, D].

        The residual is wide, too: the backward then rounds once, as autograd does, and not twice.
        """
        per_row = hidden.new_empty(4, len(hidden), dtype=wide)
        return cls(
            per_row[0],
            per_row[1],
            per_row[2],
            per_row[3] if extras else None,
            hidden.new_empty(len(hidden), dtype=torch.bool) if extras else None,
            torch.empty_like(hidden, dtype=wide) if residual else None,
        )

    def part(self, rows: slice) -> Self:
        """Views of some rows."""
        entropy, hit, residual = (None if field is None else field[rows] for field in self[3:])
        return type(self)(self.logp[rows], self.total[rows], self.peak[rows], entropy, hit, residual)


class _Cast(NamedTuple):
    weight: torch.Tensor
    version: int
    place: int


_CASTS: Any = WeakIdKeyDictionary()


def narrowed(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A frozen head's weight in the type of the matmuls: one copy, kept while the weight lives and is not changed.

    A weight that is trained is handed back as it is, to be cast when it is used.
    """
    if torch.compiler.is_compiling() or weight.is_inference():  # inference tensors count no changes
        return weight if weight.requires_grad else weight.to(dtype)
    if weight.requires_grad or weight.dtype == dtype:
        _CASTS.pop(weight, None)
        return weight
    kept = _CASTS.get(weight)
    state = weight._version, weight.data_ptr()
    if kept is None or kept.weight.dtype != dtype or kept[1:] != state:
        kept = _CASTS[weight] = _Cast(weight.to(dtype), *state)
    return kept.weight
