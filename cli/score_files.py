"""What `prefmill score` writes: a table of scores, and a contact sheet of the images sorted by one of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError

FORMATS = (".csv", ".json", ".jsonl", ".parquet")
_TILE, _CAPTION, _COLUMNS, _MOST = 192, 30, 6, 600


def check_output(path: Path) -> None:
    """Raise PrefmillError for a name whose ending is no table's."""
    if path.suffix.lower() not in FORMATS:
        raise PrefmillError(f"--to {path} has no ending that names a format.", f"use one of {', '.join(FORMATS)}")


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of equal columns as the file's ending says; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    ending = path.suffix.lower()
    if ending == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), fresh)
    elif ending == ".csv":
        with fresh.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif ending == ".jsonl":
        fresh.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        fresh.write_text(json.dumps(list(rows), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)


def write_contact_sheet(path: Path, rows: Sequence[dict[str, Any]], score: str) -> int:
    """Draw the scored images as tiles, the best first, each with its score; at most 600. Returns how many."""
    from PIL import Image, ImageDraw

    from ..engine.images import decode_image

    best = sorted((row for row in rows if row["image"] and row[score] is not None), key=lambda row: -row[score])[:_MOST]
    if not best:
        return 0
    columns = min(_COLUMNS, len(best))
    lines = -(-len(best) // columns)
    sheet = Image.new("RGB", (columns * _TILE, lines * (_TILE + _CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(best):
        left, top = number % columns * _TILE, number // columns * (_TILE + _CAPTION)
        picture = decode_image(Path(row["image"]).read_bytes())
        picture.thumbnail((_TILE - 4, _TILE - 4))
        sheet.paste(picture, (left + (_TILE - picture.width) // 2, top + (_TILE - picture.height) // 2))
        name = Path(row["image"]).name.encode("ascii", "replace").decode()  # the built-in font has no other letters
        draw.text((left + 4, top + _TILE), f"{number + 1}. {row[score]:.4f}\n{name[-30:]}", fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return len(best)
