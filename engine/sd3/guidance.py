"""What a step of a drawing runs: the guided network, or one of the cheaper ways that levers allow (`levers.py`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ...base.errors import PrefmillError
from ...kernels.guided_step import guided_step
from .levers import Levers
from .step import Steps
from .text import TextEmbedding


@dataclass(frozen=True)
class Conditioning:
    """What a batch of B rows is drawn from: prompts, guidance scales [B] (at least 1), and the empty prompt, one row.

    Without `unprompted` no row is guided, and the transformer runs once per row and not twice.
    """

    prompted: TextEmbedding
    guidance: torch.Tensor
    unprompted: TextEmbedding | None = None


class After(NamedTuple):
    """A step's end: latents [B, C, h, w], the two velocities, and the scales [B] that they were combined by."""

    latents: torch.Tensor
    prompted: torch.Tensor
    unprompted: torch.Tensor
    guidance: torch.Tensor


class Guidance:
    """Runs the steps of one batch, in order; `levels` are the noise levels that they start from."""

    def __init__(self, steps: Steps, conditioning: Conditioning, levers: Levers, levels: Sequence[float]) -> None:
        self._steps, self._scales = steps, conditioning.guidance
        self._text = {"tokens": conditioning.prompted.tokens, "pooled": conditioning.prompted.pooled}
        self._empty: dict[str, torch.Tensor] = {}
        self._guides = ["plain"] * len(levels)
        if (empty := conditioning.unprompted) is not None:
            self._empty = {"empty_tokens": empty.tokens, "empty_pooled": empty.pooled}
            self._guides = levers.guides(levels)
        if steps.plain is None and set(self._guides) != {"guided"}:
            raise PrefmillError("this model was loaded for guided steps alone.", "load it with guidance=(1.0,)")
        self._direction: torch.Tensor | None = None
        """What guidance adds per unit of scale [B, C, h, w]: prompted minus unprompted, of the last guided step."""

    def step(self, number: int, inputs: Mapping[str, torch.Tensor]) -> After:
        """Take step `number` (from 0); `inputs` are `latents`, `times`, `level` and `following`."""
        if self._guides[number] == "guided":
            after = self._steps.guided.run({**inputs, **self._text, **self._empty, "guidance": self._scales})
            prompted, unprompted = after["prompted"], after["unprompted"]
            if "reused" in self._guides[number + 1 : number + 2]:
                self._direction = prompted - unprompted
            return After(after["next_latents"], prompted, unprompted, self._scales)
        assert self._steps.plain is not None
        after = self._steps.plain.run({**inputs, **self._text})
        prompted = after["prompted"]
        if self._guides[number] == "plain":
            return After(after["next_latents"], prompted, prompted, torch.ones_like(self._scales))
        assert self._direction is not None
        unprompted = prompted - self._direction
        rates = (self._scales, inputs["level"], inputs["following"])
        return After(guided_step(inputs["latents"], prompted, unprompted, *rates), prompted, unprompted, self._scales)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows alone."""
        self._scales = self._scales[rows]
        self._text = {name: value[rows] for name, value in self._text.items()}
        self._direction = None if self._direction is None else self._direction[rows]
