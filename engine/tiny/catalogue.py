"""Tiny checkpoints of the real model classes with random weights: no download, a few MB, seconds to build.

They make every program runnable anywhere: same files, classes, tokenizers and shapes as the official checkpoints,
only smaller. Nothing of quality can be learnt from them. `random:policy` names one wherever a checkpoint is named.
"""

from collections.abc import Callable
from pathlib import Path

from ...base.errors import PrefmillError
from ..settings import cache_folder
from .comparison_models import build_aesthetic, build_blip, build_clip, build_hpsv2, build_pickscore
from .image_models import build_image_reward, build_text_to_image
from .language_models import build_responder, build_text_model, build_text_reward
from .vision_language_models import FAMILIES, build_vision_language_model

__all__ = [
    "build_all",
    "build_image_reward",
    "build_named",
    "build_responder",
    "build_text_model",
    "build_text_reward",
    "build_text_to_image",
    "build_vision_language_model",
]

_BUILDERS: dict[str, Callable[[Path, int], Path]] = {
    "text-to-image": build_text_to_image,
    "image-reward": build_image_reward,
    "clip": build_clip,
    "pickscore": build_pickscore,
    "hpsv2": build_hpsv2,
    "blip": build_blip,
    "aesthetic": build_aesthetic,
    "responder-a": lambda folder, seed: build_responder(folder, seed + 1),
    "responder-b": lambda folder, seed: build_responder(folder, seed + 7, image_size=70, hidden_size=96),
    "responder-c": lambda folder, seed: build_responder(folder, seed + 2, image_size=42, num_hidden_layers=3),
    "policy": lambda folder, seed: build_responder(folder, seed + 2, image_size=84),
    "text-reward": build_text_reward,
    "text-model": build_text_model,
}


def build_all(folder: Path, seed: int = 0) -> dict[str, Path]:
    """All checkpoints that a run needs, each in its own sub-folder; those already there are kept."""
    return {name: build(folder / name, seed) for name, build in _BUILDERS.items()}


def build_named(name: str) -> Path:
    """The folder of one checkpoint in the cache (PREFMILL_CACHE, else ~/.cache/prefmill), built if it is not there.

    Raises PrefmillError for an unknown name.
    """
    check_name(name)
    cache = cache_folder()
    folder = cache / "random" / name
    return build_vision_language_model(folder, name) if name in FAMILIES else _BUILDERS[name](folder, 0)


def check_name(name: str) -> None:
    """Raise PrefmillError unless `build_named` knows the name."""
    known = (*_BUILDERS, *FAMILIES)
    if name not in known:
        raise PrefmillError(f"there is no random checkpoint {name!r}.", f"choose one of {', '.join(known)}")
