"""Which networks TensorRT for RTX builds, for GPUs that are not here: every one, in every precision, and what it said.

    python -m prefmill.bench.cross_build              # all networks of the random checkpoints, and SD3-medium's
    python -m prefmill.bench.cross_build --only sd3   # those whose name contains it
    python -m prefmill.bench.cross_build --only sd3-medium/   # the whole of it: a plan of 4 GB, 20 GB of memory

Every build has a process of its own, so that its peak of memory is its own, and so that one that falls takes nothing
with it; the processes are forked from one that has the libraries already. What is written is whether it was built, how
large the plan is, and how many layers the parser made of the graph. Nothing is executed, so nothing is said of speed or
of numbers.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from .result_file import called, write_result

BACKEND = "tensorrt_rtx"
TARGETS = ("sm_80", "sm_86", "sm_89")
PRECISIONS = ("float32", "bfloat16")
NETWORKS = {
    "text-to-image": ("sd3_clip_1", "sd3_clip_2", "sd3_t5", "sd3_guided_step", "sd3_plain_step", "sd3_decoder"),
    "image-reward": ("image_reward",),
    "clip": ("clip_image", "clip_text"),
    "blip": ("blip_matching",),
    "aesthetic": ("aesthetic",),
    "text-reward": ("armorm", "armorm_shared"),
    "responder-a": ("llava_vision",),
}
"""The networks of which engines are built, by the random checkpoint that has them."""
MEDIUM = {"sd3-medium-4-layers": 4, "sd3-medium": 24}
"""Stable Diffusion 3 medium at its full width and image size, with random weights: its layers, by name."""


@dataclass(frozen=True)
class CrossBuild:
    """One build: `reason` where there is no plan."""

    checkpoint: str
    network: str
    precision: str
    built: bool
    parameters: int = 0
    plan_bytes: int = 0
    layers: int = 0
    peak_bytes: int = 0
    reason: str = ""


def cases(only: str = "") -> list[tuple[str, str, str]]:
    """Checkpoint, network and precision of every build."""
    tiny = [
        (checkpoint, name, precision)
        for checkpoint, names in NETWORKS.items()
        for name in names
        for precision in PRECISIONS
    ]
    wide = [(model, name, "bfloat16") for model in MEDIUM for name in ("sd3_guided_step", "sd3_plain_step")]
    return [case for case in [*wide, *tiny] if only in f"{case[0]}/{case[1]}"]


def attempt(checkpoint: str, name: str, precision: str) -> CrossBuild:
    """Build one, in this process."""
    import torch

    from ..compile.build import build_engine

    network = _network(checkpoint, name, precision)
    parameters = sum(value.numel() for value in network.module.parameters())
    with tempfile.TemporaryDirectory() as folder:
        try:
            _, artifact = build_engine(
                network, BACKEND, precision, torch.device("cpu"), Path(folder), targets=TARGETS
            )  # fmt: skip
        except PrefmillError as error:
            return CrossBuild(checkpoint, name, precision, False, parameters, reason=str(error))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return CrossBuild(checkpoint, name, precision, True, parameters, artifact.size, artifact.notes["layers"], peak)


def _network(checkpoint: str, name: str, precision: str) -> Any:
    from ..engine.settings import EngineSettings

    settings = EngineSettings.model_validate({"device": "cpu", "dtype": precision})
    if checkpoint in MEDIUM:
        return _medium(name, precision, MEDIUM[checkpoint])
    if checkpoint == "text-to-image":
        from ..engine.sd3.text_to_image import TextToImage as Engine
    elif checkpoint == "text-reward":
        from ..engine.scorers.text_reward import TextReward as Engine
    elif checkpoint == "responder-a":
        from ..engine.responders.transformers import TransformersResponder as Engine
    else:
        from ..engine.scorers.catalogue import load_image_scorer

        scorer = load_image_scorer(checkpoint.replace("-", ""), f"random:{checkpoint}", settings)
        return next(runner.network for runner in scorer.runners if runner.network.name == name)
    engine = Engine.from_pretrained(f"random:{checkpoint}", settings)
    return next(runner.network for runner in engine.runners if runner.network.name == name)


def _medium(name: str, precision: str, layers: int) -> Any:
    import torch

    from ..engine.sd3.step import step_network
    from .sd3_medium import Medium, medium_transformer

    sizes = Medium(layers, dtype=getattr(torch, precision))
    transformer = medium_transformer(sizes, torch.device("cpu"))
    return step_network(transformer, sizes.text_tokens, guided="guided" in name)


def run(only: str = "", to: Path | None = None) -> dict[str, Any]:
    """Build them all, print progress to stderr, write the outcomes to `to` as they come, and return the claims."""
    from ..compile import build  # noqa: F401  # what every process needs
    from ..engine.responders import transformers  # noqa: F401
    from ..engine.scorers import catalogue  # noqa: F401
    from ..engine.sd3 import text_to_image  # noqa: F401

    outcomes: list[CrossBuild] = []
    context = multiprocessing.get_context("fork")
    for case in cases(only):
        with ProcessPoolExecutor(1, context) as pool:
            try:
                outcome = pool.submit(attempt, *case).result()
            except BrokenProcessPool:
                outcome = CrossBuild(*case, built=False, reason="the process was killed: out of memory, most likely")
        said = f"{outcome.plan_bytes / 1e6:.1f} MB" if outcome.built else outcome.reason
        print(f"{'/'.join(case)}: {said}", file=sys.stderr, flush=True)
        outcomes.append(outcome)
        if to is not None:
            setting = {"backend": BACKEND, "targets": TARGETS, "version": version("tensorrt_rtx")}
            builds = [asdict(one) for one in outcomes]
            write_result(
                to, called("python -m prefmill.bench.cross_build"), setting, claims_of(outcomes), builds=builds
            )
    return claims_of(outcomes)


def claims_of(outcomes: list[CrossBuild]) -> dict[str, int]:
    """How many were built, of how many; none is executed."""
    return {"built": sum(one.built for one in outcomes), "tried": len(outcomes), "executed": 0}


def main() -> None:
    """Read the arguments, build, and print the claims as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="those whose CHECKPOINT/NETWORK contains this text")
    parser.add_argument("--to", type=Path, help="write the outcomes to this file")
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.only, arguments.to)))


if __name__ == "__main__":
    main()
