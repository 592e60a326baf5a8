"""Which rows went no further, by stage and reason: where each reject is written, not what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ..records import Reject
from .growing import Growing
from .keys import keys_of


class RejectIndex:
    """The rejects of a run in the order in which they were read."""

    def __init__(self) -> None:
        self.kinds: list[tuple[str, str]] = []
        """Folder and reason, by their number."""
        self.counts = Counter[tuple[str, str]]()
        self._numbers: dict[tuple[str, str], int] = {}
        self._keys, self._kinds = Growing(np.uint64), Growing(np.int32)
        self._shards, self._places = Growing(np.int32), Growing(np.int32)

    def __len__(self) -> int:
        return self._keys.count

    def add(self, folder: str, shard: int, rejects: Sequence[Reject]) -> None:
        """Add what a shard's footer tells."""
        if not rejects:
            return
        names = [(folder, reject.reason) for reject in rejects]
        for name in names:
            if name not in self._numbers:
                self._numbers[name] = len(self.kinds)
                self.kinds.append(name)
        self.counts.update(names)
        self._keys.extend(keys_of(pa.array([reject.subject_id for reject in rejects], pa.string())))
        self._kinds.extend(np.array([self._numbers[name] for name in names], np.int32))
        self._shards.extend(np.full(len(rejects), shard, np.int32))
        self._places.extend(np.arange(len(rejects), dtype=np.int32))

    @property
    def keys(self) -> np.ndarray:
        """The keys of what was rejected [N]."""
        return self._keys.values

    def of_kind(self, folder: str | None, reason: str | None) -> np.ndarray:
        """Return the numbers of the rejects of a folder, of a reason, of both, or of all."""
        wanted = [
            number
            for number, kind in enumerate(self.kinds)
            if (folder is None or kind[0] == folder) and (reason is None or kind[1] == reason)
        ]
        return np.flatnonzero(np.isin(self._kinds.values, wanted))

    def place(self, number: int) -> tuple[str, int, int]:
        """Return the folder of a reject, its shard, and its place in that one's footer."""
        return (
            self.kinds[self._kinds.values[number]][0],
            int(self._shards.values[number]),
            int(self._places.values[number]),
        )
