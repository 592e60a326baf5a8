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
        if (empty := conditioning.unprompted) is not None:
            self._empty = {"empty_tokens": empty.tokens, "empty_pooled": empty.pooled}
        self._guides = levers.guides(levels, guided_drawing=empty is not None)
        if steps.plain is None and not {"guided", "extrapolated"}.issuperset(self._guides):
            raise PrefmillError("this model was loaded for guided steps alone.", "load it with guidance=(1.0,)")
        self._direction: torch.Tensor | None = None
        """What guidance adds per unit of scale [B, C, h, w]: prompted minus unprompted, of the last guided step."""
        self._levels, self._extrapolates = levels, "extrapolated" in self._guides
        self._computed: list[tuple[int, After]] = []
        """The last two steps that ran a network, by their numbers, where any is extrapolated."""

    def step(self, number: int, inputs: Mapping[str, torch.Tensor]) -> After:
        """Take step `number` (from 0); `inputs` are `latents`, `times`, `level` and `following`."""
        if self._guides[number] == "extrapolated":
            return self._extrapolated(number, inputs)
        after = self._run(number, inputs)
        if self._extrapolates:
            self._computed = [*self._computed[-1:], (number, after)]
        return after

    def _extrapolated(self, number: int, inputs: Mapping[str, torch.Tensor]) -> After:
        """Both velocities on a line through the last two computed ones."""
        (one, earlier), (two, later) = self._computed
        far = (self._levels[number] - self._levels[two]) / (self._levels[two] - self._levels[one])
        prompted, unprompted = (
            torch.lerp(*pair, 1 + far)
            for pair in ((earlier.prompted, later.prompted), (earlier.unprompted, later.unprompted))
        )
        rates = (later.guidance, inputs["level"], inputs["following"])
        return After(guided_step(inputs["latents"], prompted, unprompted, *rates), prompted, unprompted, later.guidance)

    def _run(self, number: int, inputs: Mapping[str, torch.Tensor]) -> After:
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
        self._computed = [(step, After(*(part[rows] for part in after))) for step, after in self._computed]
