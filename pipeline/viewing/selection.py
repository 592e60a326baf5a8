"""Which entries of a run a reader wants to see: filters over the index, a search in the texts, and their order.

Conditions on pairs (responder, role, margin, verdict) hold for one and the same pair. A search looks for a text as it
is, whatever its case, in prompts, instructions and answers; it reads them a row group at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

import numpy as np
import pyarrow.compute as pc

from ...base.errors import PrefmillError
from .index import STATES, RunIndex
from .keys import UNKNOWN

Role = Literal["any", "chosen", "rejected"]
Order = Literal["number", "widest", "closest"]
_LONGEST = 500  # characters of a search
REACHED = {
    **{"waiting": STATES["prompts"], "drawn": STATES["candidates"], "scored": STATES["image_scores"]},
    **{"rated": STATES["annotations"], "preferred": STATES["image_preferences"], "picked": STATES["selections"]},
    **{"asked": STATES["instructions"], "answered": STATES["responses"], "judged": STATES["response_scores"]},
    **{"paired": STATES["pairs"]},
}
"""How far an entry has come, by name and bit, the furthest last."""


@dataclass(frozen=True)
class SelectionFilter:
    """What a reader asks for; a field that is None asks for nothing."""

    q: str | None = None
    state: str | None = None
    responder: str | None = None
    role: Role = "any"
    margin_from: float | None = None
    margin_to: float | None = None
    reason: str | None = None
    """FOLDER:REASON of a reject."""
    guidance: float | None = None
    verdict: str | None = None
    """agree, disagree, or none for pairs without one."""
    order: Order = "number"

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Return the filter that a page's address asks for. Raises PrefmillError for a value that cannot be one."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            text = given.get(field.name, "").strip()
            if not text:
                continue
            if field.name in {"margin_from", "margin_to", "guidance"}:
                values[field.name] = _number(field.name, text)
            else:
                values[field.name] = text[:_LONGEST]
        _one_of("state", values.get("state"), REACHED)
        _one_of("role", values.get("role"), get_args(Role))
        _one_of("order", values.get("order"), get_args(Order))
        _one_of("verdict", values.get("verdict"), ("agree", "disagree", "none"))
        return cls(**values)

    @property
    def is_about_pairs(self) -> bool:
        """Whether only some pairs of an entry may be what was asked for."""
        return any(value is not None for value in (self.responder, self.margin_from, self.margin_to, self.verdict))


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise PrefmillError(f"{name} is {text!r}, which is no number", f"give {name} a number")
    return value


def _one_of(name: str, value: str | None, allowed: Any) -> None:
    if value is not None and value not in allowed:
        raise PrefmillError(f"{name} is {value!r}", f"choose one of {', '.join(allowed)}")


def reached(states: np.ndarray) -> np.ndarray:
    """Return how far entries [N] with such bits have come: places in `REACHED` [N]; 0 also for none of them."""
    found = np.zeros(len(states), np.int8)
    for place, bit in enumerate(REACHED.values()):
        found[(states & bit) != 0] = place
    return found


def picked_guidance(index: RunIndex) -> tuple[np.ndarray, np.ndarray]:
    """Return the entries [P] of the picked images, and their guidance [P] (NaN: unknown)."""
    tables = [*index.named("picks"), *index.named("selections")]
    keys = [table.rows.column("image_id") for table in tables if table.rows.count]
    picked = np.unique(np.concatenate(keys)) if keys else np.zeros(0, np.uint64)
    entries, scales = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for table in index.named("candidates"):
        if table.rows.count:
            places = np.minimum(np.searchsorted(picked, table.rows.column("id")), max(len(picked) - 1, 0))
            is_picked = picked[places] == table.rows.column("id") if len(picked) else np.zeros(table.rows.count, bool)
            entries.append(table.rows.column("owner")[is_picked])
            scales.append(table.rows.column("guidance")[is_picked])
    return np.concatenate(entries), np.concatenate(scales)


def pairs_meant(index: RunIndex, wanted: SelectionFilter, verdicts: Mapping[int, str]) -> np.ndarray:
    """Return the rows of the pairs that a filter means. `verdicts`: by a pair's key."""
    table = next(index.named("pairs"), None)
    if table is None or not table.rows.count:
        return np.zeros(0, np.int64)
    rows, meant = table.rows, np.ones(table.rows.count, bool)
    if wanted.responder is not None:
        known = index.responders.index(wanted.responder) if wanted.responder in index.responders else -2
        sides = {side: index.responder_of(rows.column(f"{side}_id")) == known for side in ("chosen", "rejected")}
        meant &= sides["chosen"] | sides["rejected"] if wanted.role == "any" else sides[wanted.role]
    margins = rows.column("margin")
    if wanted.margin_from is not None:
        meant &= margins >= np.float32(wanted.margin_from)
    if wanted.margin_to is not None:
        meant &= margins <= np.float32(wanted.margin_to)
    if wanted.verdict is not None:
        keys = [key for key, verdict in verdicts.items() if wanted.verdict in {"none", verdict}]
        is_told = np.isin(rows.column("id"), np.array(keys, np.uint64))
        meant &= ~is_told if wanted.verdict == "none" else is_told
    return np.flatnonzero(meant)


def select(index: RunIndex, wanted: SelectionFilter, verdicts: Mapping[int, str]) -> np.ndarray:
    """Return the numbers of the entries a filter asks for, in its order. Takes the lock, a search for moments only."""
    with index.lock:
        keep = np.ones(len(index), bool)
        if wanted.state is not None:
            keep &= reached(index.states) == list(REACHED).index(wanted.state)
        if wanted.is_about_pairs:
            meant = pairs_meant(index, wanted, verdicts)
            owners = [table.rows.column("owner")[meant] for table in index.named("pairs")]
            keep &= _marked(index, owners[0] if owners else np.zeros(0, np.int32))
        if wanted.reason is not None:
            folder, _, reason = wanted.reason.partition(":")
            places = index.rejects.of_kind(folder, reason)
            keep &= _marked(index, index.entries_of(index.rejects.keys[places]))
        if wanted.guidance is not None:
            entries, scales = picked_guidance(index)
            keep &= _marked(index, entries[np.isclose(scales, wanted.guidance)])
    if wanted.q is not None:
        marks = found_in_texts(index, wanted.q)
        both = min(len(keep), len(marks))
        keep = keep[:both] & marks[:both]
    with index.lock:
        entries = np.flatnonzero(keep)
        return _ordered(index, entries[entries < len(index)], wanted.order)


def _ordered(index: RunIndex, entries: np.ndarray, order: Order) -> np.ndarray:
    if order == "number":
        return entries[np.argsort(index.prompt_rows[entries] < 0, kind="stable")]  # images without a prompt last
    widest = np.full(len(index), -np.inf, np.float32)
    closest = np.full(len(index), np.inf, np.float32)
    for table in index.named("pairs"):
        owners, margins = table.rows.column("owner"), table.rows.column("margin")
        known = (owners != UNKNOWN) & ~np.isnan(margins)
        np.maximum.at(widest, owners[known], margins[known])
        np.minimum.at(closest, owners[known], margins[known])
    rank = -widest if order == "widest" else closest
    return entries[np.argsort(rank[entries], kind="stable")]


def _marked(index: RunIndex, entries: np.ndarray) -> np.ndarray:
    marks = np.zeros(len(index), bool)
    marks[entries[entries != UNKNOWN]] = True
    return marks


def found_in_texts(index: RunIndex, text: str) -> np.ndarray:
    """Return which entries [N] have a text in their prompt, their instructions or their answers, in any case."""
    with index.lock:
        marks = np.zeros(len(index), bool)
        parts = [(table, *part) for table in index.tables.values() if table.kind.text for part in table.groups()]
    for table, shard, group, first in parts:
        try:
            column = table.column(shard, group, table.kind.text)
        except PrefmillError as error:
            table.problems[table.shards[shard].path.name] = error.message
            continue
        matches = pc.match_substring(column, text, ignore_case=True)  # pyright: ignore[reportAttributeAccessIssue]
        hits = np.flatnonzero(matches.to_numpy())
        if len(hits):
            with index.lock:
                owners = table.rows.owners_within(shard, first, len(column))[hits]
            marks[owners[(owners != UNKNOWN) & (owners < len(marks))]] = True
    return marks
