"""Where a model comes from: a folder, a hub id, a checkpoint of the package, or a tiny random one made on the spot."""

import re
from pathlib import Path

from huggingface_hub import auth_check, model_info, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from ..base.errors import PrefmillError
from .checkpoint import check_weight_files, read_config, summary
from .settings import MICRO_CHECKPOINTS, MICRO_PREFIX, RANDOM_PREFIX

_HUB_SECONDS = 20.0
_DOWNLOADED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "ImageReward.pt", "HPS_v2.1_compressed.pt"]
HPSV2_FILES = ("HPS_v2.1_compressed.pt", "HPS_v2_compressed.pt")


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
    folder = _folder(source)
    if folder is not None:
        return folder
    try:
        return Path(snapshot_download(source, allow_patterns=_DOWNLOADED, ignore_patterns=["*fp16*", "*non_ema*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise PrefmillError(
            f"checkpoint {source!r} is neither a folder here nor to be had from the hub ({summary(error)}).",
            f"check the name and the network, set HF_TOKEN for a gated model, or run: hf download {source}",
        ) from error


def local_checkpoint(source: str) -> Path:
    """The local folder of `source`, for reading configs: never downloads, and weights need not be there.

    Raises PrefmillError as resolve_checkpoint does, and for a hub id of which nothing is here.
    """
    if source.startswith((RANDOM_PREFIX, MICRO_PREFIX)) or _folder(source) is not None:
        return resolve_checkpoint(source)
    config = try_to_load_from_cache(source, "config.json")
    if not isinstance(config, str):
        raise PrefmillError(
            f"checkpoint {source!r} is not downloaded.",
            f"all but its weights is enough: hf download {source} --exclude '*.safetensors'",
        )
    return Path(config).parent


def is_here(source: str) -> bool:
    """Whether loading `source` downloads nothing."""
    if source.startswith((RANDOM_PREFIX, MICRO_PREFIX)) or _folder(source) is not None:
        return True
    try:
        snapshot_download(source, local_files_only=True)
    except (LocalEntryNotFoundError, OSError, ValueError):
        return False
    return True


def _folder(source: str) -> Path | None:
    """The folder that `source` is; None for a hub id. Raises PrefmillError for what is neither."""
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
    return None


def check_checkpoint(source: str) -> None:
    """Say whether `source` can be had, without downloading or loading weights; a snapshot in the cache counts.

    A folder must hold a config, and weight files whose headers can be read. Raises PrefmillError for whatever is not
    there, a gated or unknown hub id, and a hub that cannot be reached.
    """
    if source.startswith(RANDOM_PREFIX):
        from .tiny.catalogue import check_name  # as above

        check_name(source.removeprefix(RANDOM_PREFIX))
    elif source.startswith(MICRO_PREFIX):
        check_folder(_shipped(source.removeprefix(MICRO_PREFIX)))
    elif (folder := _folder(source)) is not None:
        check_folder(folder)
    else:
        _check_hub(source)


def check_folder(folder: Path) -> None:
    """Read the configs and the headers of the weight files of a model folder, or of each part of a pipeline's.

    Raises PrefmillError for what is missing or broken.
    """
    if (folder / "model_index.json").is_file():
        parts = read_config(folder, "model_index.json")
        for name, stated in parts.items():
            if name.startswith("_") or not isinstance(stated, list) or not stated or stated[0] is None:
                continue
            if not (folder / name).is_dir():
                raise PrefmillError(f"{folder} has no {name}.", f"delete {folder} and download or build it again")
            if (folder / name / "config.json").is_file():
                check_folder(folder / name)
    elif (folder / "ImageReward.pt").is_file():
        read_config(folder, "med_config.json")
    elif not any((folder / name).is_file() for name in HPSV2_FILES):  # complete without a config
        read_config(folder)
        check_weight_files(folder)


def _check_hub(source: str) -> None:
    cached = try_to_load_from_cache(source, "config.json"), try_to_load_from_cache(source, "model_index.json")
    if any(isinstance(path, str) for path in cached):
        return
    try:
        model_info(source, timeout=_HUB_SECONDS)
        auth_check(source)  # a gated model describes itself to everybody, and gives its files to some
    except GatedRepoError as error:
        raise PrefmillError(
            f"checkpoint {source!r} is gated, and this account may not read it.",
            f"ask for access at https://huggingface.co/{source}, then set HF_TOKEN or run: hf auth login",
        ) from error
    except RepositoryNotFoundError as error:
        raise PrefmillError(
            f"the hub has no checkpoint {source!r}, or it is private.",
            "check the name; for a private model set HF_TOKEN or run: hf auth login",
        ) from error
    except Exception as error:  # offline by choice or not, a hub in trouble: the transport brings errors of its own
        raise PrefmillError(
            f"checkpoint {source!r} is not in the cache, and the hub cannot be asked ({summary(error)}).",
            f"check the network, or run where there is one: hf download {source}",
        ) from error


def _shipped(name: str) -> Path:
    names = sorted(folder.name for folder in MICRO_CHECKPOINTS.glob("*/") if not folder.name.startswith("."))
    if name not in names:
        raise PrefmillError(f"there is no micro checkpoint {name!r}.", f"choose one of {', '.join(names)}")
    return MICRO_CHECKPOINTS / name
