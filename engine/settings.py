"""Settings of engines that a configuration carries. Kept free of torch, so that printing a recipe stays quick."""

import os
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


def cache_folder() -> Path:
    """Where checkpoints are kept that were made here: PREFMILL_CACHE, else ~/.cache/prefmill."""
    return Path(os.environ.get("PREFMILL_CACHE") or Path.home() / ".cache" / "prefmill")


Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8", "fp8"]
EIGHT_BIT = ("int8", "fp8")
Backend = Literal["eager", "torch_compile", "onnxruntime", "openvino", "aoti", "tensorrt", "tensorrt_rtx"]


class StageEngine(Settings):
    """What one stage has otherwise than the others; None: as they have it."""

    device: str | None = None
    dtype: Dtype | None = None
    backend: Backend | None = None


class EngineSettings(Settings):
    """Where models run, in which precision, and what runs them."""

    device: Literal["auto", "cpu", "cuda"] | str = "auto"
    """`auto` takes the first GPU where there is one; `cuda:1` names a GPU."""
    dtype: Dtype = "auto"
    """`auto` is bfloat16 on a GPU and float32 on a CPU; int8 and fp8: SD3's step, where an engine of it was built; all
    other networks then compute as `auto`."""
    backend: Backend = "eager"
    """What runs the networks; all but eager and torch_compile run engines that were built before."""
    missing: Literal["error", "eager", "build"] = "error"
    """Where an engine is missing: stop with the command that builds it, run eagerly and say so, or build it first."""
    cuda_graphs: bool = False
    """TensorRT records the kernels of each shape once and replays them; other backends take no notice."""
    artifacts: str | None = Field(
        default=None, description="folder of engines; by default $PREFMILL_ENGINES or a cache"
    )
    stages: dict[str, StageEngine] = Field(default={}, description="by the name of a stage's settings: generate, score")

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:<number>, not {value!r}")
        return value

    def of_stage(self, setting: str) -> "EngineSettings":
        """The settings of the stage whose own settings go by this name."""
        own = self.stages.get(setting, StageEngine()).model_dump(exclude_none=True)
        return type(self).model_validate({**self.model_dump(exclude={"stages"}), **own})

    @property
    def needs_engines(self) -> bool:
        """Whether the backend runs engines that were built before."""
        return self.backend not in ("eager", "torch_compile")

    @property
    def artifacts_folder(self) -> Path:
        """Where engines are kept."""
        kept = self.artifacts or os.environ.get("PREFMILL_ENGINES")
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return Path(kept).expanduser() if kept else cache / "prefmill" / "engines"


class Sampling(Settings):
    """How a text model draws its answer."""

    max_new_tokens: int = Field(default=1000, gt=0)
    temperature: float = Field(default=0.0, ge=0.0)
    """0 takes the most likely token at each step."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
