"""What `prefmill score` writes: a table of scores, and a contact sheet of the images sorted by one of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from ..base.files import TEMPORARY, replacing

FORMATS = (".csv", ".json", ".jsonl", ".parquet")
SHEET_FORMATS = (".png", ".jpg", ".jpeg")
_FORMULA = frozenset("=+-@\t\r")  # what a spreadsheet takes for the beginning of a formula
_TILE, _CAPTION, _COLUMNS, _MOST = 192, 30, 6, 600


def check_endings(to: Path, sheet: Path | None) -> None:
    """Raise PrefmillError for a name whose ending is no table's, and no picture's for a sheet."""
    if to.suffix.lower() not in FORMATS:
        raise PrefmillError(f"--to {to} has no ending that names a format.", f"use one of {', '.join(FORMATS)}")
    if sheet is not None and sheet.suffix.lower() not in SHEET_FORMATS:
        raise PrefmillError(f"--sheet {sheet} is not a picture's name.", f"use one of {', '.join(SHEET_FORMATS)}")


def check_writable(option: str, path: Path, inputs: Iterable[Path]) -> None:
    """Raise PrefmillError where `path` is one of the inputs, under any name, or cannot be written. Makes its folder."""
    if path.is_dir():
        raise PrefmillError(f"{option} {path} is a folder.", "give the name of a file")
    if path.exists() and _identity(path) in map(_identity, inputs):
        raise PrefmillError(f"{option} {path} is one of the inputs.", "choose another name")
    probe = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise PrefmillError(
            f"cannot write {path}: {error.strerror or error}", f"choose another place with {option}"
        ) from error


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of equal columns as the file's ending says; whole or not at all.

    Texts that a spreadsheet would run as a formula get an apostrophe before them in .csv.
    """
    ending = path.suffix.lower()
    with replacing(path) as fresh:
        if ending == ".parquet":
            import pyarrow
            from pyarrow import parquet

            parquet.write_table(pyarrow.Table.from_pylist(list(rows)), fresh)
        elif ending == ".csv":
            with fresh.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
        elif ending == ".jsonl":
            fresh.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        else:
            fresh.write_text(json.dumps(list(rows), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA else value


def write_contact_sheet(path: Path, scored: Sequence[tuple[Path, float]]) -> int:
    """Draw the scored images as tiles, the best first, each with its score; at most 600. Returns how many."""
    from PIL import Image, ImageDraw

    best = sorted(scored, key=lambda one: -one[1])[:_MOST]
    if not best:
        return 0
    columns = min(_COLUMNS, len(best))
    lines = -(-len(best) // columns)
    sheet = Image.new("RGB", (columns * _TILE, lines * (_TILE + _CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (image, value) in enumerate(best):
        left, top = number % columns * _TILE, number // columns * (_TILE + _CAPTION)
        if (tile := _tile(image)) is not None:
            sheet.paste(tile, (left + (_TILE - tile.width) // 2, top + (_TILE - tile.height) // 2))
        name = image.name.encode("ascii", "replace").decode()  # the built-in font has no other letters
        draw.text((left + 4, top + _TILE), f"{number + 1}. {value:.4f}\n{name[-30:]}", fill="black")
    with replacing(path) as fresh:
        sheet.save(fresh)
    return len(best)


def _tile(image: Path) -> Any:
    """The image made small; None where its file was taken away or damaged since it was scored."""
    from ..engine.images import UnreadableImage, decoded

    try:
        with decoded(image.read_bytes()) as picture:
            picture.thumbnail((_TILE - 4, _TILE - 4))
            return picture
    except (OSError, UnreadableImage):
        return None
