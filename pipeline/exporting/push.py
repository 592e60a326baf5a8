"""An export to the Hugging Face Hub: what would be uploaded, and the upload.

The token comes from the environment alone (`HF_TOKEN`), never from an argument, which other users of a machine can
read. A folder is uploaded as it is listed: what is no plain file inside it is refused, not followed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ...base.errors import PrefmillError
from ...base.files import TEMPORARY
from .card import CARD

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TOKEN = "HF_TOKEN"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


@dataclass(frozen=True)
class PushPlan:
    """What is uploaded where: paths inside the folder with their sizes in bytes, and the card's licence."""

    folder: Path
    repository: str
    private: bool
    files: dict[str, int]
    license: str | None

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(self.files.values())


def plan_push(folder: Path, repository: str, *, private: bool = True) -> PushPlan:
    """Return what a push would upload; asks nobody.

    Raises PrefmillError for a folder that is no export, for a link or hidden file in it, and for a bad name.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise PrefmillError(f"{repository!r} is no repository of the Hub", "give it as owner/name")
    header = _header(folder)
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or any(part.startswith(".") for part in Path(name).parts):
            kind = "a link" if path.is_symlink() else "half written" if TEMPORARY in name else "hidden"
            raise PrefmillError(f"{folder / name} is {kind}", "remove it, or export again into a new folder")
        if path.is_file():
            files[name] = path.stat().st_size
    return PushPlan(folder, repository, private, files, header.get("license"))


def push(plan: PushPlan, api: HfApi | None = None) -> str:
    """Upload an export and return its address. Raises PrefmillError without a token, and when the Hub refuses."""
    token = os.environ.get(TOKEN)
    if not token:
        raise PrefmillError(
            f"{TOKEN} is not set", f"export {TOKEN}=... with a token that may write, or look first with --dry-run"
        )
    from httpx2 import HTTPError
    from huggingface_hub import HfApi

    api = api or HfApi(token=token)
    try:
        api.create_repo(plan.repository, repo_type="dataset", private=plan.private, exist_ok=True)
        api.upload_folder(
            repo_id=plan.repository,
            repo_type="dataset",
            folder_path=plan.folder,
            commit_message=f"{len(plan.files)} files by prefmill push",
        )
    except (HTTPError, OSError) as error:
        told = str(error).replace(token, "...")
        raise PrefmillError(
            f"the Hub did not take {plan.repository}: {told.splitlines()[0] if told else type(error).__name__}",
            "correct the token's rights or the name, then give the same command again: what is there is not sent twice",
        ) from error
    return f"https://huggingface.co/datasets/{plan.repository}"


def _header(folder: Path) -> dict[str, str]:
    """The card's header. Raises PrefmillError where there is none."""
    fix = "give a folder that `prefmill export` wrote"
    try:
        text = (folder / CARD).read_text(encoding="utf-8")
        header = yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else None
    except (OSError, ValueError, IndexError, yaml.YAMLError) as error:
        raise PrefmillError(f"{folder} has no data card ({CARD})", fix) from error
    if not isinstance(header, dict):
        raise PrefmillError(f"{folder / CARD} has no header", fix)
    return header
