"""Settings of engines that a configuration carries. Kept free of torch, so that printing a recipe stays quick."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from ..base.settings import Settings

RANDOM_PREFIX = "random:"
"""A checkpoint named `random:NAME` is made on the spot: the real classes, tiny, with random weights."""

MICRO_PREFIX = "micro:"
"""A checkpoint named `micro:NAME` comes with the package: trained on the micro world."""
MICRO_CHECKPOINTS = Path(__file__).parents[1] / "micro" / "trained"


class EngineSettings(Settings):
    """Device and precision of one loaded model."""

    device: Literal["auto", "cpu", "cuda"] | str = "auto"
    """`auto` takes the first GPU where there is one; `cuda:1` names a GPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` is bfloat16 on a GPU and float32 on a CPU."""

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:<number>, not {value!r}")
        return value


class Sampling(Settings):
    """How a text model draws its answer."""

    max_new_tokens: int = Field(default=1000, gt=0)
    temperature: float = Field(default=0.0, ge=0.0)
    """0 takes the most likely token at each step."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
