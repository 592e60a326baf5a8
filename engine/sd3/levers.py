"""Approximations of sampling that cost less: each is off by default, has a name, and changes the images.

All of them leave the networks alone and choose which network a step runs, by the step's number and noise level. So they
work with every backend, and nothing is read back from the device. Kept free of torch: configurations hold them.
"""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from ...base.errors import PrefmillError
from ...base.settings import Settings

Guide = Literal["guided", "reused", "plain", "extrapolated"]
"""What a step runs: both prompts; the prompt, with the direction of an earlier step; the prompt alone; nothing."""


class Levers(Settings):
    """What may be left out of a drawing; by default nothing."""

    guidance_interval: tuple[float, float] | None = Field(
        default=None,
        description="guide only steps whose noise level is above the first and at most the second of these numbers "
        "(arXiv 2404.07724; levels go from 1, noise, to 0); the other steps cost half",
    )
    guidance_cache: int = Field(
        default=1,
        ge=1,
        description="what guidance adds to the prompted velocity is computed on every n-th guided step and reused "
        "between, where steps cost half; 1 reuses nothing",
    )
    step_cache: int = Field(
        default=1,
        ge=1,
        description="after the first step the transformer runs on every n-th, and between them velocities are "
        "extrapolated along the noise level from the last two that it gave (as arXiv 2503.06923 does with features); "
        "1 extrapolates nothing",
    )

    @model_validator(mode="after")
    def _is_an_interval(self) -> Self:
        if self.guidance_interval is not None:
            low, high = self.guidance_interval
            if not 0 <= low < high <= 1:
                raise ValueError("guidance_interval goes from a lower to a higher noise level within 0 and 1")
        return self

    @property
    def named(self) -> dict[str, object]:
        """Those that are in use, as plain values: a part of what an image was made from."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def always_guided(self) -> bool:
        """Whether a guided drawing runs the guided network alone."""
        return self.guidance_interval is None and self.guidance_cache == 1

    def guides(self, levels: Sequence[float], *, guided_drawing: bool = True) -> list[Guide]:
        """What every step of a drawing runs; `levels` are those that the steps start from."""
        low, high = self.guidance_interval or (-1.0, float("inf"))
        guides: list[Guide] = []
        guided = 0
        for number, level in enumerate(levels):
            if number > 1 and (number - 1) % self.step_cache:
                guides.append("extrapolated")
                continue
            if not (guided_drawing and low < level <= high):
                guides.append("plain")
                continue
            guides.append("reused" if guided % self.guidance_cache else "guided")
            guided += 1
        return guides

    def require_exact(self, purpose: str) -> None:
        """Raise PrefmillError where one of them is in use for what needs every step's own guidance."""
        if self.named:
            raise PrefmillError(
                f"{purpose} cannot be combined with {', '.join(self.named)}, which are for Euler's method.",
                "leave these levers out",
            )
