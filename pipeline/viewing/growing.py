"""An array of numbers that grows at its end."""

from __future__ import annotations

from typing import Any

import numpy as np


class Growing:
    """Numbers of one type; room is doubled where it runs out, so that adding one costs little."""

    def __init__(self, dtype: Any) -> None:
        self._room = np.zeros(1024, dtype)
        self.count = 0

    @property
    def values(self) -> np.ndarray:
        """What has been added [count]: a view, to write to as well, until more is added."""
        return self._room[: self.count]

    def extend(self, values: np.ndarray) -> None:
        """Add values [N]."""
        needed = self.count + len(values)
        if needed > len(self._room):
            room = np.zeros(max(needed, 2 * len(self._room)), self._room.dtype)
            room[: self.count] = self.values
            self._room = room
        self._room[self.count : needed] = values
        self.count = needed
