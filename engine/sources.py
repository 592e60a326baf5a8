"""Where a model comes from: a folder, a hub id, a checkpoint of the package, or a tiny random one made on the spot."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from ..base.errors import PrefmillError
from .checkpoint import summary
from .settings import MICRO_CHECKPOINTS, MICRO_PREFIX, RANDOM_PREFIX

_DOWNLOADED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "ImageReward.pt"]


def resolve_checkpoint(source: str) -> Path:
    """The local folder of `source`: a folder as it is, a hub id `owner/name` after its download.

    `micro:NAME` is one that comes with the package, `random:NAME` is built on the spot.
    Only safetensors, json and text files are fetched; the hub library takes its token from the environment.
    Raises PrefmillError for a folder that is not there and for a hub id that cannot be had.
    """
    if source.startswith(RANDOM_PREFIX):
        from .tiny.catalogue import build_named  # model classes: only these sources need them

        return build_named(source.removeprefix(RANDOM_PREFIX))
    if source.startswith(MICRO_PREFIX):
        return _shipped(source.removeprefix(MICRO_PREFIX))
    try:
        folder = Path(source).expanduser()
        is_folder, is_file = bool(source) and folder.is_dir(), folder.is_file()
    except (OSError, RuntimeError, ValueError):  # a name too long, an unknown user, a null byte: no folder of ours
        folder, is_folder, is_file = Path(), False, False
    if is_folder:
        return folder.resolve()
    if is_file:
        raise PrefmillError(f"checkpoint {source!r} is a file, not a folder.", "give the folder that holds config.json")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", source):
        raise PrefmillError(
            f"checkpoint folder {source!r} does not exist.", "give an existing folder, or a hub id like owner/name"
        )
    try:
        return Path(snapshot_download(source, allow_patterns=_DOWNLOADED, ignore_patterns=["*fp16*", "*non_ema*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise PrefmillError(
            f"checkpoint {source!r} is neither a folder here nor to be had from the hub ({summary(error)}).",
            f"check the name and the network, set HF_TOKEN for a gated model, or run: hf download {source}",
        ) from error


def _shipped(name: str) -> Path:
    names = sorted(folder.name for folder in MICRO_CHECKPOINTS.glob("*/") if not folder.name.startswith("."))
    if name not in names:
        raise PrefmillError(f"there is no micro checkpoint {name!r}.", f"choose one of {', '.join(names)}")
    return MICRO_CHECKPOINTS / name
