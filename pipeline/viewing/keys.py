"""Ids as numbers, so that a hundred thousand prompts with all that belongs to them are found in little memory.

An id is 32 hex digits of a SHA-256; as a Python string it takes 81 bytes, and ten tables have them. Here it is its
first 64 bits, in numpy arrays. Two ids of one run share those with a chance of 10^-6 at six million rows; who shows a
row compares the whole id with the one that was asked for.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NONE = np.uint64(0)
"""The key of an id that is not there."""
UNKNOWN = -1
_DIGITS = 32
_VALUE = np.full(256, 255, np.uint8)
_VALUE[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


def key_of(identity: str | None) -> np.uint64:
    """Return an id's key: its first 16 hex digits as a number, and for an id of another form 64 bits of its hash."""
    return keys_of(pa.array([identity], pa.string()))[0]


def keys_of(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return the keys of a column of ids [N] as uint64 [N]; where there is none, `NONE`."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # what a chunked array without rows combines to
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], pa.string())
    filled = pc.fill_null(array.cast(pa.string()), "")  # pyright: ignore[reportAttributeAccessIssue]
    keys = np.zeros(len(filled), np.uint64)
    if not len(filled):
        return keys
    lengths = pc.binary_length(filled).to_numpy(zero_copy_only=False)  # pyright: ignore[reportAttributeAccessIssue]
    plain = np.flatnonzero(lengths == _DIGITS)
    texts = filled if len(plain) == len(filled) else filled.take(pa.array(plain))
    fixed = texts.cast(pa.binary()).cast(pa.binary(_DIGITS))
    data = np.frombuffer(fixed.buffers()[1], np.uint8, len(plain) * _DIGITS, fixed.offset * _DIGITS)
    digits = _VALUE[data.reshape(-1, _DIGITS)]
    is_hex = (digits < 16).all(axis=1)
    high, low = digits[:, 0:16:2], digits[:, 1:16:2]
    found = (high << 4 | (low & 15)).astype(np.uint8)
    keys[plain] = np.ascontiguousarray(found).view(">u8").ravel().astype(np.uint64)
    for row in (*plain[~is_hex], *np.flatnonzero((lengths != _DIGITS) & (lengths > 0))):
        digest = hashlib.blake2b(filled[int(row)].as_py().encode(), digest_size=8).digest()
        keys[row] = int.from_bytes(digest, "big")
    return keys


class KeyMap:
    """From keys to numbers. What is added is sorted into runs that double in length, so that adding stays cheap."""

    def __init__(self) -> None:
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def __len__(self) -> int:
        return sum(len(keys) for keys, _ in self._runs)

    def add(self, keys: np.ndarray, numbers: np.ndarray) -> None:
        """Add keys uint64 [N] with their numbers int32 [N]; of a key that comes again the first one counts."""
        order = np.argsort(keys, kind="stable")
        run = keys[order], numbers[order].astype(np.int32)
        while self._runs and len(self._runs[-1][0]) <= len(run[0]):
            before = self._runs.pop()
            both = np.concatenate([before[0], run[0]])
            order = np.argsort(both, kind="stable")
            run = both[order], np.concatenate([before[1], run[1]])[order]
        self._runs.append(run)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the numbers of keys as int32 [N], `UNKNOWN` where there is none."""
        found = np.full(len(keys), UNKNOWN, np.int32)
        for own, numbers in self._runs:
            if not len(own):
                continue
            places = np.minimum(np.searchsorted(own, keys), len(own) - 1)
            is_here = (own[places] == keys) & (found == UNKNOWN) & (keys != NONE)
            found[is_here] = numbers[places[is_here]]
        return found

    def get(self, identity: str) -> int:
        """Return the number of an id, `UNKNOWN` where there is none."""
        return int(self.find(np.array([key_of(identity)], np.uint64))[0])
