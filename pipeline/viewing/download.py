"""A selection as a file: JSON lines with all of every entry but its pixels, or a table of its pairs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .entries import EntryReader
from .index import RunIndex
from .selection import SelectionFilter, pairs_meant, select
from .verdicts import VerdictFile

COLUMNS = (
    *("number", "prompt_id", "prompt", "image_id", "guidance", "image_score", "instruction"),
    *("pair_id", "chosen", "rejected", "chosen_responder", "rejected_responder"),
    *("chosen_score", "rejected_score", "margin", "verdict"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def entries_meant(index: RunIndex, wanted: SelectionFilter, verdicts: VerdictFile | None) -> Iterator[dict[str, Any]]:
    """Yield the entries a filter asks for, whole; where it is about pairs, with those pairs alone."""
    reader, told = EntryReader(index, longest=None), verdicts.by_key() if verdicts else {}
    started, entries = index.started, select(index, wanted, told)
    with index.lock:
        meant = pairs_meant(index, wanted, told) if wanted.is_about_pairs else np.zeros(0, np.int64)
        owners = [table.rows.column("owner")[meant] for table in index.named("pairs")]
    for entry in entries:
        with index.lock:
            if index.started != started:  # the numbers now mean other entries: what is there is cut, and not wrong
                return
            found = reader.whole(int(entry))
            if wanted.is_about_pairs:
                [table] = index.named("pairs")
                keep = {row["id"] for row in table.read(meant[owners[0] == entry], ("id",))}
                for question in found["questions"]:
                    question["pairs"] = [pair for pair in question["pairs"] if pair["id"] in keep]
                found["questions"] = [question for question in found["questions"] if question["pairs"]]
        for question in found["questions"]:
            for pair in question["pairs"]:
                pair["verdict"] = verdicts.of(pair["id"]) if verdicts else None
        yield found


def as_json_lines(entries: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield an entry a line; all texts are as they are stored."""
    for entry in entries:
        yield json.dumps(entry, ensure_ascii=False) + "\n"


def as_table(entries: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield CSV, a pair a line; a text that a spreadsheet would run as a formula begins with an apostrophe."""
    yield _line(COLUMNS)
    for entry in entries:
        images = {image["id"]: image for image in entry["images"]}
        prompt = entry["prompt"] or {}
        for question in entry["questions"]:
            answers = {answer["id"]: answer for answer in question["answers"]}
            for pair in question["pairs"]:
                image = images.get(pair["image_id"], {})
                sides = {side: answers.get(pair[f"{side}_id"], {}) for side in ("chosen", "rejected")}
                row = {
                    **{"number": entry["number"], "prompt_id": prompt.get("id"), "prompt": prompt.get("text")},
                    **{"image_id": pair["image_id"], "guidance": image.get("guidance"), "image_score": _score(image)},
                    **{key: pair[key] for key in ("instruction", "chosen", "rejected", "margin", "verdict")},
                    **{f"{side}_responder": answer.get("responder") for side, answer in sides.items()},
                    **{f"{side}_score": _score(answer) for side, answer in sides.items()},
                }
                yield _line(_safe(row.get(column, pair["id"])) for column in COLUMNS)


def _score(row: dict[str, Any]) -> float | None:
    return next((score["value"] for score in row.get("scores", ())), None)


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _line(values: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(values)
    return buffer.getvalue()
