"""Answers before and after a training, side by side: two files of answers that an evaluation left in the run.

Found are folders inside the run, up to three levels down, with answer files of the same name in `before` and `after`,
or with files `before.jsonl` and `after.jsonl`. A row has its id under `question_id` or `id` and its text under
`answer`, `text`, `response` or `model_answer`; the files of the evaluators have that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...base.errors import PrefmillError
from ...base.files import reason_of
from ..store import Run

_LEVELS, _LARGEST = 3, 64_000_000
_ANSWER = ("answer", "response", "model_answer", "text")
_QUESTION = ("question", "query", "prompt", "text")
_ID = ("question_id", "id")
_SKIPPED = ("_", ".")


@dataclass(frozen=True)
class AnswersCompared:
    """An evaluation that the run holds: its name and its two files."""

    name: str
    before: Path
    after: Path


def comparisons_of(run: Run) -> list[AnswersCompared]:
    """Return the evaluations with answers before and after, by name."""
    found = {}
    for folder in _folders(run.folder, _LEVELS):
        for before in _files(folder):
            after = folder / f"after{before.suffix}"
            if before.stem == "before" and after.is_file():
                found[_name(run, folder)] = (before, after)
        for before in _files(folder / "before"):
            after = folder / "after" / before.name
            if after.is_file():
                found[_name(run, folder / before.stem)] = (before, after)
    return [AnswersCompared(name, *files) for name, files in sorted(found.items())]


def read_comparison(compared: AnswersCompared) -> list[dict[str, Any]]:
    """Return the questions both files answer, in the order of the first, and those that only one answers.

    Raises PrefmillError for a file that cannot be read.
    """
    before, after = _rows(compared.before), _rows(compared.after)
    return [
        {
            "id": name,
            "question": _text(row, _QUESTION, unless=_answer_key(row)),
            "image": row.get("image") if isinstance(row.get("image"), str) else None,
            "before": _answer(before.get(name)),
            "after": _answer(after.get(name)),
        }
        for name, row in {**after, **before}.items()
    ]


def _name(run: Run, path: Path) -> str:
    return path.relative_to(run.folder).as_posix()


def _folders(folder: Path, levels: int) -> Iterator[Path]:
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(_SKIPPED))
    except OSError:
        return
    for path in inside:
        if not path.is_symlink():
            yield path
            if levels > 1:
                yield from _folders(path, levels - 1)


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and _may_hold_answers(path))
    except OSError:
        return []


def _may_hold_answers(path: Path) -> bool:
    """Whether a file is lines, or a list, of answers: an object is a report on them."""
    if path.suffix != ".json":
        return path.suffix == ".jsonl"
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"[")


def _rows(path: Path) -> dict[str, dict[str, Any]]:
    try:
        if path.stat().st_size > _LARGEST:
            raise PrefmillError(f"{path} has over {_LARGEST // 1_000_000} MB", "show a part of it")
        text = path.read_text(encoding="utf-8-sig")
        rows = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(line) for line in text.splitlines() if line.strip()]
        )
    except (OSError, ValueError, RecursionError) as error:
        what = reason_of(error) if isinstance(error, OSError) else str(error)
        raise PrefmillError(f"cannot read {path}: {what}", "give the command that wrote it again") from error
    found = {}
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            name = next((row[key] for key in _ID if isinstance(row.get(key), str | int)), number)
            found.setdefault(str(name), row)
    return found


def _answer_key(row: dict[str, Any]) -> str | None:
    return next((key for key in _ANSWER if isinstance(row.get(key), str)), None)


def _answer(row: dict[str, Any] | None) -> str | None:
    key = _answer_key(row) if row else None
    return row[key] if row and key else None


def _text(row: dict[str, Any], keys: tuple[str, ...], unless: str | None) -> str | None:
    return next((row[key] for key in keys if key != unless and isinstance(row.get(key), str)), None)
