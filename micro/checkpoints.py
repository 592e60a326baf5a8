"""All trained micro checkpoints: how each is made from nothing, measured, and checked against what was measured.

A folder of checkpoints has one sub-folder for each and a manifest.json beside them. The manifest states for each the
hash of every file, the command and seed that make it, what that took, and its measured quality.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from ..base.files import sha256_of, write_text
from ..engine.device import hardware_description
from .measure.annotator import measure_annotator
from .measure.images import measure_clip, measure_generator, measure_image_reward, measure_matching
from .measure.responder import measure_responder
from .measure.text_reward import measure_text_reward
from .teach.annotator import ANNOTATORS, train_annotator
from .teach.comparators import train_clip, train_matching
from .teach.generator import train_generator
from .teach.image_reward import train_image_reward
from .teach.responder import train_responder
from .teach.responder_models import RESPONDERS
from .teach.text_reward import train_text_reward
from .teach.training import OnProgress, silent

SHIPPED = Path(__file__).parent / "trained"
"""The checkpoints that come with the package."""
MANIFEST = "manifest.json"
_LIBRARIES = ("torch", "transformers", "diffusers", "numpy", "pillow")
_TOLERANCE = 0.03
"""By how much a share may differ on another machine, where sums of floats come in another order."""

Measured = dict[str, float]


@dataclass(frozen=True)
class CheckpointRecipe:
    """How one checkpoint is trained into `root / name` and measured there; `needs` are trained before it."""

    train: Callable[[Path, int, OnProgress], object]
    measure: Callable[[Path, bool], Measured]
    needs: tuple[str, ...] = ()


def _responder(name: str) -> CheckpointRecipe:
    return CheckpointRecipe(
        lambda root, seed, report: train_responder(name, root / name, seed, report, root / "text-to-image"),
        lambda root, quick: measure_responder(root / name, quick=quick),
        needs=("text-to-image",) if RESPONDERS[name].sees_made else (),
    )


def _annotator(name: str) -> CheckpointRecipe:
    return CheckpointRecipe(
        lambda root, seed, report: train_annotator(name, root / name, seed, report, root / "text-to-image"),
        lambda root, quick: measure_annotator(root, name, quick=quick),
        needs=("text-to-image",),
    )


RECIPES: dict[str, CheckpointRecipe] = {
    "text-to-image": CheckpointRecipe(
        lambda root, seed, report: train_generator(root / "text-to-image", seed, report),
        lambda root, quick: measure_generator(root, quick=quick),
    ),
    "clip": CheckpointRecipe(
        lambda root, seed, report: train_clip(root / "clip", seed, report),
        lambda root, quick: measure_clip(root, quick=quick),
        needs=("text-to-image",),
    ),
    "blip-matching": CheckpointRecipe(
        lambda root, seed, report: train_matching(root / "blip-matching", seed, report),
        lambda root, quick: measure_matching(root, quick=quick),
        needs=("text-to-image",),
    ),
    "image-reward": CheckpointRecipe(
        lambda root, seed, report: train_image_reward(root / "image-reward", seed, report, root / "text-to-image"),
        lambda root, quick: measure_image_reward(root, quick=quick),
        needs=("text-to-image", "clip", "blip-matching"),
    ),
    **{name: _responder(name) for name in RESPONDERS},
    **{name: _annotator(name) for name in ANNOTATORS},
    "text-reward": CheckpointRecipe(
        lambda root, seed, report: train_text_reward(root / "text-reward", seed, report),
        lambda root, quick: measure_text_reward(root / "text-reward", quick=quick),
    ),
}
"""By name, in an order in which each comes after what it needs."""


@dataclass(frozen=True)
class Check:
    """One checkpoint held against the manifest: what differs, as sentences; empty where nothing does."""

    name: str
    measured: Measured
    differences: list[str]


def checkpoint_folder(name: str) -> Path:
    """The folder of a shipped checkpoint. Raises PrefmillError for an unknown name and where it is missing."""
    if name not in RECIPES:
        raise PrefmillError(f"there is no micro checkpoint {name!r}.", f"choose one of {', '.join(RECIPES)}")
    folder = SHIPPED / name
    if not folder.is_dir():
        raise PrefmillError(
            f"micro checkpoint {name!r} is not in {SHIPPED}.", f"prefmill micro train {name} --to {SHIPPED}"
        )
    return folder


def train_all(
    root: Path, seed: int = 0, names: Sequence[str] | None = None, on_progress: OnProgress = silent
) -> dict[str, Any]:
    """Train the named checkpoints (all by default) into `root`, measure them, and return the manifest written there.

    Checkpoints that are there and not named stay. Raises PrefmillError for an unknown name, and where one that is
    needed is neither named nor there.
    """
    chosen = _chosen(root, names)
    root.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(root) if (root / MANIFEST).is_file() else {"checkpoints": {}}
    for name in chosen:
        shutil.rmtree(root / name, ignore_errors=True)
        started = time.process_time()
        RECIPES[name].train(root, seed, on_progress)
        manifest["checkpoints"][name] = _entry(root, name, seed, time.process_time() - started)
        _write_manifest(root, manifest)
    measure_again(root, chosen)
    return read_manifest(root)


def measure_again(root: Path, names: Sequence[str] | None = None) -> None:
    """Measure the checkpoints that are there and write their quality into the manifest."""
    manifest = read_manifest(root)
    for name in names or manifest["checkpoints"]:
        entry = manifest["checkpoints"][name]
        entry["quality"] = RECIPES[name].measure(root, False)
        entry["quick_quality"] = RECIPES[name].measure(root, True)
        _write_manifest(root, manifest)


def verify(root: Path = SHIPPED, names: Sequence[str] | None = None, *, quick: bool = False) -> list[Check]:
    """Compare files and re-measured quality with the manifest; `quick` measures the small sample that it also states.

    Raises PrefmillError where there is no manifest, or none of that name in it.
    """
    stated = read_manifest(root)["checkpoints"]
    for name in names or ():
        if name not in stated:
            raise PrefmillError(f"the manifest in {root} has no {name!r}.", f"choose one of {', '.join(stated)}")
    checks = []
    for name in names or stated:
        differences = _file_differences(stated[name]["files"], _hashes(root / name))
        measured: Measured = {}
        if not differences:
            measured = RECIPES[name].measure(root, quick)
            differences = _quality_differences(stated[name]["quick_quality" if quick else "quality"], measured)
        checks.append(Check(name, measured, differences))
    return checks


def read_manifest(root: Path = SHIPPED) -> dict[str, Any]:
    """The manifest of a folder of checkpoints. Raises PrefmillError where it is missing or broken."""
    path = root / MANIFEST
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PrefmillError(f"{path} is missing or broken ({error}).", f"prefmill micro train --to {root}") from error


def _chosen(root: Path, names: Sequence[str] | None) -> list[str]:
    unknown = [name for name in names or () if name not in RECIPES]
    if unknown:
        raise PrefmillError(f"there is no micro checkpoint {unknown[0]!r}.", f"choose one of {', '.join(RECIPES)}")
    chosen = [name for name in RECIPES if names is None or name in names]
    for name in chosen:
        for need in RECIPES[name].needs:
            if need not in chosen and not (root / need).is_dir():
                raise PrefmillError(f"{name!r} needs {need!r}, which is not in {root}.", f"name {need} too")
    return chosen


def _entry(root: Path, name: str, seed: int, seconds: float) -> dict[str, Any]:
    return {
        "command": f"prefmill micro train {name} --seed {seed}",
        "seed": seed,
        "cpu_seconds": round(seconds, 1),
        "bytes": sum(path.stat().st_size for path in (root / name).rglob("*") if path.is_file()),
        "files": _hashes(root / name),
        "versions": {library: version(library) for library in _LIBRARIES},
        "hardware": hardware_description(),
    }


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def _file_differences(stated: dict[str, str], found: dict[str, str]) -> list[str]:
    missing = [f"{name} is missing" for name in stated.keys() - found.keys()]
    foreign = [f"{name} is not in the manifest" for name in found.keys() - stated.keys()]
    changed = [f"{name} has another hash" for name in stated.keys() & found.keys() if stated[name] != found[name]]
    return sorted(missing + foreign + changed)


def _quality_differences(stated: Measured, measured: Measured) -> list[str]:
    return [
        f"{name} is {measured.get(name)}, the manifest says {value}"
        for name, value in stated.items()
        if name not in measured or abs(measured[name] - value) > _TOLERANCE * max(1.0, abs(value))
    ]


def _write_manifest(root: Path, manifest: dict[str, Any]) -> None:
    write_text(root / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
