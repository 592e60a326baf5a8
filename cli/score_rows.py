"""The rows that `prefmill score` works on: a folder of images, or a table that names images, prompts and answers."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from ..base.tables.table import BadRow
from ..pipeline.exchange.image_files import SUFFIXES, locate
from ..pipeline.exchange.images import image_root

TABLES = (".csv", ".json", ".jsonl", ".parquet")
_NAMES = {
    "image": ("image", "image_path", "path", "file", "file_name"),
    "prompt": ("prompt", "text", "caption"),
    "answer": ("answer", "response"),
}


@dataclass(frozen=True)
class ScoreRow:
    """One thing to score. `image` is None in a table of answers alone, `prompt` where the row names none.

    `fault` says why the image is not opened: its path leaves the folder, or there is no such file.
    """

    image: Path | None
    prompt: str | None
    answer: str | None = None
    fault: str | None = None


def read_rows(images: Path, prompt: str | None, prompts: Path | None, root: Path | None = None) -> list[ScoreRow]:
    """The rows of a folder (all of its images, by name), of one image, or of a table.

    Image paths in a table start from `root`, by default its folder, and may not leave it. `prompt` is for every
    row; `prompts` is a text file with one line per row, or a table with a prompt column and, where it has one, an
    image column by whose names it is matched.
    Raises PrefmillError for what is not there, holds no rows, or does not fit together.
    """
    if prompt is not None and prompts is not None:
        raise PrefmillError("both --prompt and --prompts were given.", "give one of them")
    if not images.exists():
        raise PrefmillError(f"{images} does not exist.", "give a folder of images, an image or a table")
    if images.is_dir():
        found = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        rows = [ScoreRow(path, None) for path in found]
    elif images.suffix.lower() in TABLES:
        folder = image_root(images, root)
        rows = [_row(values, images, root or images.parent, folder) for values in read_table(images)]
    else:
        rows = [ScoreRow(images, None)]
    if not rows:
        raise PrefmillError(f"{images} holds no images.", f"give a folder with {', '.join(sorted(SUFFIXES))} files")
    if prompt is not None:
        return [replace(row, prompt=prompt) for row in rows]
    return _with_prompts(rows, prompts) if prompts is not None else rows


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV, JSON, JSON-lines or Parquet file. Raises PrefmillError for a broken one."""
    try:
        if path.suffix.lower() == ".parquet":
            from pyarrow import ArrowException, parquet

            try:
                return parquet.read_table(path).to_pylist()
            except ArrowException as error:
                raise ValueError(error) from error
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            return list(csv.DictReader(text.splitlines(keepends=True)))
        if path.suffix.lower() == ".jsonl":
            values: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            values = json.loads(text)
    except (OSError, ValueError, csv.Error) as error:
        raise PrefmillError(f"{path} cannot be read as a table: {error}", "give CSV, JSON, JSONL or Parquet") from error
    if not isinstance(values, list) or not all(isinstance(row, dict) for row in values):
        raise PrefmillError(f"{path} is no list of objects.", 'write [{"image": "1.png", "prompt": "a cat"}]')
    return values


def _row(values: dict[str, Any], table: Path, root: Path, folder: Path) -> ScoreRow:
    """A table's row; `folder` is `root` resolved, which is what a path may not leave."""
    found = {field: _value(values, names) for field, names in _NAMES.items()}
    if found["image"] is None and found["answer"] is None:
        raise PrefmillError(
            f"a row of {table} has neither an image nor an answer; its columns are {', '.join(map(str, values))}.",
            f"name the image column one of {', '.join(_NAMES['image'])}",
        )
    if found["image"] is None:
        return ScoreRow(None, found["prompt"], found["answer"])
    fault = None
    try:
        locate(folder, found["image"])
    except BadRow as error:
        fault = f"image not readable: {error.detail}"
    return ScoreRow(root / found["image"], found["prompt"], found["answer"], fault)


def _with_prompts(rows: Sequence[ScoreRow], source: Path) -> list[ScoreRow]:
    if not source.is_file():
        raise PrefmillError(
            f"the prompts file {source} does not exist.", "give a .txt, .csv, .json, .jsonl or .parquet"
        )
    named: dict[str, str] = {}
    if source.suffix.lower() in TABLES:
        table = read_table(source)
        lines = [_value(values, _NAMES["prompt"]) for values in table]
        for values, line in zip(table, lines, strict=True):
            image = _value(values, _NAMES["image"])
            if image is not None and line is not None:
                named[Path(image).name] = line
    else:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    if named:
        return [replace(row, prompt=named.get(row.image.name) if row.image else None) for row in rows]
    if len(lines) != len(rows):
        raise PrefmillError(
            f"{source} has {len(lines)} prompts for {len(rows)} rows.", "give one line per image, in the order of names"
        )
    return [replace(row, prompt=line) for row, line in zip(rows, lines, strict=True)]


def _value(values: dict[str, Any], names: Iterable[str]) -> str | None:
    for name in names:
        if values.get(name) is not None:
            return str(values[name])
    return None
