"""What belongs to which prompt, over a whole run: built a portion of every table at a time, in the background.

The first round reads the first rows of every table, so that the first page can be shown at once; later rounds read
more and more. An entry of the list is a prompt with all that was made of it, or an image that came without a prompt.
Rows whose owner is not there yet wait for it; where it never comes, the image they speak of is an entry by itself.

Kept are numbers alone, some 12 to 30 bytes a row. Texts and images are read when they are looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ...base.errors import PrefmillError
from ...base.files import reason_of
from ..store import Run
from .growing import Growing
from .keys import UNKNOWN, KeyMap, keys_of
from .layout import KINDS, TableKind, kind_of
from .rejects import RejectIndex
from .tables import StageTable, TablePortion

_FIRST_ROWS, _MOST_ROWS = 512, 4096
RESPONDERS = 64
"""Answers are numbered entry * 64 + responder."""
STATES = {
    **{"prompts": 1, "candidates": 2, "image_scores": 4, "picks": 8, "selections": 8, "instructions": 16},
    **{"responses": 32, "response_scores": 64, "judgements": 64, "pairs": 128},
    **{"annotations": 256, "image_preferences": 512},
}
"""The bit that an entry has when the table holds rows of it."""
_LOOSE = {"candidates": "id", "instructions": "image_id", "responses": "image_id", "pairs": "image_id"}
"""Tables that speak of an image, and in which column: where no prompt has it, it becomes an entry."""


@dataclass
class _Waiting:
    """Rows whose owner has not been found yet."""

    rows: np.ndarray
    owners: list[np.ndarray]  # keys, one array for each map to look them up in
    own: np.ndarray | None
    images: pa.Array | None


class RunIndex:
    """The index of a run. `step` is called by one thread; everything else by any, holding `lock`."""

    def __init__(self, run: Run) -> None:
        self.run, self.lock = run, threading.RLock()
        self.version = self.started = 0
        self.begin()

    def begin(self) -> None:
        """Start from nothing, since what was read has been replaced."""
        with self.lock:
            self.tables: dict[str, StageTable] = {}
            self.maps = {name: KeyMap() for name in ("prompts", "images", "instructions", "responses")}
            self.loose: list[str] = []
            self.responders: list[str] = []
            self.rejects = RejectIndex()
            self._prompts = Growing(np.int32)  # of each entry: its row in the table of prompts, or -1 - loose
            self._states = Growing(np.uint16)
            self._waiting: dict[str, list[_Waiting]] = {}
            self._portion, self.rounds = _FIRST_ROWS, 0
            self.version += 1
            self.started = self.version

    def __len__(self) -> int:
        return self._states.count

    @property
    def states(self) -> np.ndarray:
        """The bits of every entry [N], see `STATES`."""
        return self._states.values

    @property
    def prompt_rows(self) -> np.ndarray:
        """Every entry's row in the table of prompts [N]; of an image without one, -1 minus its place in `loose`."""
        return self._prompts.values

    def named(self, kind: str) -> Iterator[StageTable]:
        """Yield the tables of one kind that are there, in the order of their names."""
        for folder in sorted(self.tables):
            if self.tables[folder].kind.name == kind:
                yield self.tables[folder]

    @property
    def is_read(self) -> bool:
        """Whether all rows that were there at the last look have been read."""
        return self.rounds > 0 and all(table.is_read for table in self.tables.values())

    def progress(self) -> float:
        """Return the share of the committed inputs that have been read."""
        counts = [table.progress for table in list(self.tables.values())]
        total = sum(count for _, count in counts)
        return sum(done for done, _ in counts) / total if total else 1.0

    def refresh(self) -> bool:
        """Look for new folders and shards; returns whether there is something to read.

        Raises PrefmillError where the run's folder has gone.
        """
        kinds = {folder: kind for folder in _folders(self.run) if (kind := kind_of(folder))}
        found = False
        # what is made of rows before those rows: an owner that was committed meanwhile is then there as well
        for folder in sorted(kinds, key=lambda name: (_place(kinds[name]), name), reverse=True):
            with self.lock:
                table = self.tables.get(folder)
                if table is None:
                    table = self.tables[folder] = StageTable(self.run, folder, kinds[folder])
                change = table.refresh()
                if change == "changed":
                    self.begin()
                    return True
                found |= change == "more"
        return found

    def step(self, pause: Callable[[], None] = lambda: None) -> bool:
        """Read a portion of every table, with a `pause` before each; returns whether there is more to read."""
        for folder, table in self._in_order():
            pause()
            before = table.next_shard
            portion = table.next_portion(self._portion)
            rejects = [(shard, table.rejects_of(shard)) for shard in range(before, table.next_shard)]
            with self.lock:
                for shard, found in rejects:
                    self.rejects.add(folder, shard, found)
                self._take_up(folder, table)
                if portion is not None:
                    self._add(folder, table, portion)
                if portion is not None or any(found for _, found in rejects):
                    self.version += 1
        with self.lock:
            self.rounds += 1
            self._portion = min(self._portion * 2, _MOST_ROWS)
            if self.is_read:
                for folder, table in self._in_order():
                    self._take_up(folder, table)
        return not self.is_read

    def _add(self, folder: str, table: StageTable, portion: TablePortion) -> None:
        kind, rows = table.kind, portion.rows
        kept = {name: keys_of(rows[name]) if name.endswith("id") else _numbers(rows[name]) for name in kind.columns}
        owners = np.full(rows.num_rows, UNKNOWN, np.int32)
        if kind.name == "prompts":
            first = len(self)
            numbers = table.rows.add(portion, {"owner": np.arange(first, first + rows.num_rows, dtype=np.int32)})
            self._prompts.extend(numbers.astype(np.int32))
            self._states.extend(np.full(rows.num_rows, STATES["prompts"], np.uint16))
            self.maps["prompts"].add(keys_of(rows["id"]), np.arange(first, len(self), dtype=np.int32))
            return
        numbers = table.rows.add(portion, {"owner": owners, **kept})
        images = rows[_LOOSE[kind.name]].combine_chunks() if kind.name in _LOOSE else None
        own = keys_of(rows["id"]) if kind.defines else None
        waiting = _Waiting(numbers, [keys_of(rows[column]) for column, _ in kind.owners], own, images)
        self._waiting.setdefault(folder, []).append(waiting)
        self._take_up(folder, table)

    def _take_up(self, folder: str, table: StageTable) -> None:
        """Find the owners of rows that wait for them; make entries of images that nothing will own."""
        waiting, self._waiting[folder] = self._waiting.get(folder, []), []
        for batch in waiting:
            owners = np.full(len(batch.rows), UNKNOWN, np.int32)
            for keys, (_, name) in zip(batch.owners, table.kind.owners, strict=True):
                found = self.maps[name].find(keys)
                found = np.where(found == UNKNOWN, UNKNOWN, found // RESPONDERS if name == "responses" else found)
                owners = np.where(owners == UNKNOWN, found, owners).astype(np.int32)
            if batch.images is not None and self._owners_are_read(table):
                self._own_by_themselves(owners, batch.images)
            known = owners != UNKNOWN
            self._settle(folder, table, batch, known, owners[known])
            if not known.all():
                left = np.flatnonzero(~known)
                images = None if batch.images is None else batch.images.take(pa.array(left))
                own = None if batch.own is None else batch.own[left]
                rest = _Waiting(batch.rows[left], [keys[left] for keys in batch.owners], own, images)
                self._waiting[folder].append(rest)

    def _settle(self, folder: str, table: StageTable, batch: _Waiting, known: np.ndarray, owners: np.ndarray) -> None:
        table.rows.settle(batch.rows[known], owners)
        self._states.values[owners] |= STATES[table.kind.name]
        if batch.own is None:
            if "image_id" in table.kind.columns and table.kind.name != "pairs":  # a pick tells whose image it is
                self.maps["images"].add(table.rows.column("image_id")[batch.rows[known]], owners)
            return
        numbers = owners
        if table.kind.defines == "responses":
            name = folder.removeprefix("responses-")
            if name not in self.responders and len(self.responders) < RESPONDERS:
                self.responders.append(name)
            number = self.responders.index(name) if name in self.responders else RESPONDERS - 1
            numbers = owners * RESPONDERS + number
        self.maps[table.kind.defines].add(batch.own[known], numbers)

    def _owners_are_read(self, table: StageTable) -> bool:
        """Whether no table that could own rows of this one has anything left to read."""
        before = [other for other in self.tables.values() if _place(other.kind) < _place(table.kind)]
        own = [other for other in before if other.kind.defines or "image_id" in other.kind.columns]
        return all(other.is_read and not self._waiting.get(other.folder) for other in own)

    def _in_order(self) -> list[tuple[str, StageTable]]:
        return sorted(self.tables.items(), key=lambda item: (_place(item[1].kind), item[0]))

    def _own_by_themselves(self, owners: np.ndarray, images: pa.Array) -> None:
        """Make an entry of every image that has none, for the rows without an owner."""
        rows = np.flatnonzero(owners == UNKNOWN)
        keys = keys_of(images.take(pa.array(rows)))
        unique, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        entries = self.maps["images"].find(unique)
        fresh = np.flatnonzero(entries == UNKNOWN)
        fresh = fresh[np.argsort(first[fresh])]  # in the order in which they come
        entries[fresh] = np.arange(len(self), len(self) + len(fresh))
        self._prompts.extend(-1 - np.arange(len(self.loose), len(self.loose) + len(fresh), dtype=np.int32))
        self._states.extend(np.zeros(len(fresh), np.uint16))
        self.loose += [images[int(rows[place])].as_py() for place in first[fresh]]
        self.maps["images"].add(unique[fresh], entries[fresh])
        owners[rows] = entries[inverse]

    def entry_of(self, identity: str) -> int:
        """Return the entry that an id belongs to, of whatever it is the id; `UNKNOWN` for none."""
        for name, known in self.maps.items():
            if (found := known.get(identity)) != UNKNOWN:
                return found // RESPONDERS if name == "responses" else found
        return UNKNOWN

    def entries_of(self, keys: np.ndarray) -> np.ndarray:
        """Return the entries that keys belong to [N], `UNKNOWN` for those of none."""
        entries = np.full(len(keys), UNKNOWN, np.int32)
        for name, known in self.maps.items():
            found = known.find(keys)
            found = np.where(found == UNKNOWN, UNKNOWN, found // RESPONDERS if name == "responses" else found)
            entries = np.where(entries == UNKNOWN, found, entries)
        return entries

    def responder_of(self, keys: np.ndarray) -> np.ndarray:
        """Return the numbers of the responders who gave some answers [N], `UNKNOWN` where no answer is known."""
        found = self.maps["responses"].find(keys)
        return np.where(found == UNKNOWN, UNKNOWN, found % RESPONDERS)

    def problems(self) -> list[dict[str, str]]:
        """Return what cannot be read: where, and what is the matter."""
        return [
            {"where": folder if where == folder else f"{folder}/{where}", "what": what}
            for folder, table in sorted(self.tables.items())
            for where, what in list(table.problems.items())
        ]


def _place(kind: TableKind) -> int:
    return KINDS.index(kind)


def _folders(run: Run) -> list[str]:
    try:
        return [path.name for path in run.folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))]
    except OSError as error:
        fix = "put it back: what was read of it is still shown"
        raise PrefmillError(f"cannot read {run.folder}: {reason_of(error)}", fix) from error


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers as float32 [N], NaN where there is none."""
    return column.to_numpy().astype(np.float32)
