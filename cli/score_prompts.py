"""Prompts for the images that `prefmill score` works on: by the images' names where they give any, else in order.

A name is a path from the images' folder. A file's bare name will do where only one image and one prompt go by it;
where more do, nothing is guessed, and the row says why it has no prompt.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ..base.errors import PrefmillError
from ..base.tables.formats import open_table
from ..base.tables.table import BadRow, Row
from .score_rows import ScoreRow, fault_of, text_of


@dataclass(frozen=True)
class _Given:
    """A row of the prompts: its image's path and its prompt, or why it is of no use."""

    place: str
    image: str | None = None
    prompt: str | None = None
    fault: str | None = None


def prompted(rows: Sequence[ScoreRow], prompt: str | None, prompts: Path | None) -> list[ScoreRow]:
    """Return the rows with one prompt for all, or with those of a file; else with the prompts that they brought.

    Raises PrefmillError for both at once, and for a prompt or a file that cannot be read or does not fit.
    """
    if prompt is not None and prompts is not None:
        raise PrefmillError("both --prompt and --prompts were given.", "give one of them")
    if prompt is not None:
        return [replace(row, prompt=_whole(prompt)) for row in rows]
    return list(rows) if prompts is None else with_prompts(rows, prompts)


def with_prompts(rows: Sequence[ScoreRow], source: Path) -> list[ScoreRow]:
    """Return the rows with the prompts of a file: text with one line per row, or any table with a prompt column.

    Raises PrefmillError for a file that cannot be read, and for another number of prompts where none names an image.
    """
    given = [_given(row) for row in open_table(source, "--prompts", text_column="prompt", rows="prompts").scan()]
    if any(one.image for one in given):
        return _by_name(rows, given)
    if len(given) != len(rows):
        raise PrefmillError(
            f"{source} has {len(given)} prompts for {len(rows)} rows.", "give one line per image, in the order of names"
        )
    return [replace(row, prompt=one.prompt, prompt_fault=one.fault) for row, one in zip(rows, given, strict=True)]


def _given(row: Row) -> _Given:
    try:
        if row.fault:
            raise row.fault
        image = text_of(row.fields, "image")
        return _Given(row.place, _normal(image) if image else None, text_of(row.fields, "prompt"))
    except BadRow as fault:
        return _Given(row.place, fault=fault_of(row.place, fault))


def _by_name(rows: Sequence[ScoreRow], given: Sequence[_Given]) -> list[ScoreRow]:
    names = {_normal(row.name) for row in rows if row.image}
    alike = Counter(PurePosixPath(name).name for name in names)
    exact, loose = defaultdict[str, list[_Given]](list), defaultdict[str, list[_Given]](list)
    for one in given:
        if one.image in names:
            exact[one.image].append(one)
        elif one.image:
            loose[PurePosixPath(one.image).name].append(one)
    faults = [one.fault for one in given if one.fault]
    missing = f"no prompt; {len(faults)} rows of prompts cannot be read: {faults[0]}" if faults else None

    def matched(row: ScoreRow) -> ScoreRow:
        name = _normal(row.name)
        base = PurePosixPath(name).name
        found = exact.get(name) or loose.get(base, [])
        if not row.image or not found:
            return replace(row, prompt=None, prompt_fault=missing)
        if name not in exact and alike[base] > 1:
            return replace(row, prompt=None, prompt_fault=f"{alike[base]} images are called {base}: give {name}")
        prompts = {one.prompt for one in found}
        if len(prompts) > 1:
            places = ", ".join(one.place for one in found[:3])
            return replace(row, prompt=None, prompt_fault=f"{len(prompts)} prompts name it ({places})")
        return replace(row, prompt=prompts.pop())

    return [matched(row) for row in rows]


def _normal(path: str) -> str:
    return str(PurePosixPath(path.replace("\\", "/")))


def _whole(prompt: str) -> str:
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise PrefmillError("--prompt holds bytes that are not UTF-8.", "write the prompt in UTF-8") from error
    return prompt
