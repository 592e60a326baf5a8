"""The rows that `prefmill score` works on: a folder of images, or a table that names images, prompts and answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from ..base.paths import user_path
from ..base.tables.formats import TABLE_SUFFIXES, open_table
from ..base.tables.table import BadRow, Row
from ..pipeline.exchange.image_files import SUFFIXES, locate
from ..pipeline.exchange.images import image_root
from ..pipeline.exchange.row_formats import first_of

FIELDS = {
    "image": ("image", "image_path", "path", "file", "file_name"),
    "prompt": ("prompt", "text", "caption"),
    "answer": ("answer", "response"),
}


@dataclass(frozen=True)
class ScoreRow:
    """One thing to score. `image` is None in a table of answers alone, `prompt` where the row names none.

    `name` is the image's path from its folder. `fault` says why nothing of the row can be used, `image_fault` why
    the image is not opened (its path leaves the folder, there is no such file), `prompt_fault` why there is no prompt.
    """

    image: Path | None = None
    name: str = ""
    prompt: str | None = None
    answer: str | None = None
    fault: str | None = None
    image_fault: str | None = None
    prompt_fault: str | None = None


def read_rows(images: Path, root: Path | None = None) -> list[ScoreRow]:
    """The rows of a folder (all of its images, by name), of one image, or of a table.

    Image paths in a table start from `root`, by default its folder, and may not leave it.
    Raises PrefmillError for what is not there, and for what holds no rows that can be used.
    """
    if not images.exists():
        raise PrefmillError(f"{images} does not exist.", "give a folder of images, an image or a table")
    if images.is_dir():
        found = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        rows = [_of_file(path, path.relative_to(images).as_posix()) for path in found]
    elif images.suffix.lower() in TABLE_SUFFIXES:
        rows = _of_table(images, root)
    elif images.is_file():
        rows = [_of_file(images, images.name)]
    else:
        raise PrefmillError(f"{images} is not a regular file.", "give a folder of images, an image or a table")
    if not rows:
        raise PrefmillError(f"{images} holds no images.", f"give a folder with {', '.join(sorted(SUFFIXES))} files")
    return rows


def text_of(fields: dict[str, Any], kind: str) -> str | None:
    """Return a row's image path, prompt or answer, None where it has none. Raises BadRow for what is no text."""
    value = first_of(fields, FIELDS[kind])
    if isinstance(value, bool | bytes | list | dict):
        raise BadRow("invalid_field", f"the {kind} is a {type(value).__name__}, not text")
    return None if value is None else str(value)


def fault_of(place: str, fault: BadRow) -> str:
    """Return in words why a table's row cannot be used."""
    return f"{place}: {fault.reason}: {fault.detail}"


def _of_file(path: Path, name: str) -> ScoreRow:
    try:
        name.encode()
    except UnicodeEncodeError:
        return ScoreRow(path, name, image_fault="image not readable: its file name is not UTF-8")
    return ScoreRow(path, name)


def _of_table(path: Path, root: Path | None) -> list[ScoreRow]:
    table = open_table(path, "IMAGES")
    start = user_path(root, "--root") if root else table.folder
    folder = image_root(start, None)
    rows = [_of_row(row, start, folder) for row in table.scan()]
    if all(row.fault for row in rows):
        columns = dict.fromkeys(str(name) for row in table.rows(0, 100) for name in row.fields)
        raise PrefmillError(
            f"no row of {path} can be used: {rows[0].fault}; its columns are {', '.join(columns) or 'not readable'}.",
            f"name the image column one of {', '.join(FIELDS['image'])}, or that of answers {FIELDS['answer'][0]}",
        )
    return rows


def _of_row(row: Row, start: Path, folder: Path) -> ScoreRow:
    """A table's row; `folder` is `start` resolved, which is what a path may not leave."""
    try:
        if row.fault:
            raise row.fault
        image, prompt, answer = (text_of(row.fields, kind) for kind in FIELDS)
        if not image and answer is None:
            raise BadRow("no_image", "neither an image nor an answer")
    except BadRow as fault:
        return ScoreRow(fault=fault_of(row.place, fault))
    if not image:
        return ScoreRow(prompt=prompt, answer=answer)
    image_fault = None
    try:
        locate(folder, image)
    except BadRow as fault:
        image_fault = f"image not readable: {fault.detail}"
    return ScoreRow(start / image, image, prompt, answer, image_fault=image_fault)
