"""Texts that share a beginning, in rows that hold the beginning once.

Attention is causal, so the states of an opening are the same before every continuation. A row is the opening, then
its continuations one after the other; each sees the opening and itself, at the positions it would have alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class SharedRow:
    """An opening with some of its continuations; `places` are the continuations' numbers in the input."""

    opening: Tokens
    continuations: tuple[Tokens, ...]
    places: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.opening) + sum(len(part) for part in self.continuations)


@dataclass(frozen=True)
class PackedRows:
    """Rows padded on the right: tokens, positions and segments [B, T].

    Segment 0 is the opening, 1 and on are the continuations, -1 is padding.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    segments: torch.Tensor

    def visible(self) -> torch.Tensor | None:
        """What each token sees, [B, 1, T, T]; None where plain causal attention does, one continuation to each row."""
        if int(self.segments.max()) <= 1:
            return None
        length = self.segments.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        same = self.segments[:, :, None] == self.segments[:, None, :]
        return ((same | (self.segments == 0)[:, None, :]) & causal)[:, None]


def share(texts: Sequence[tuple[Tokens, Tokens]], longest: int) -> list[SharedRow]:
    """(opening, continuation) pairs in rows of at most `longest` tokens, the shortest first.

    A row of one continuation may be longer.
    """
    groups: dict[Tokens, list[int]] = {}
    for place, (opening, _) in enumerate(texts):
        groups.setdefault(opening, []).append(place)
    rows = []
    for opening, places in groups.items():
        taken: list[int] = []
        length = len(opening)
        for place in places:
            added = len(texts[place][1])
            if taken and length + added > longest:
                rows.append(_row(texts, opening, taken))
                taken, length = [], len(opening)
            taken.append(place)
            length += added
        rows.append(_row(texts, opening, taken))
    return sorted(rows, key=len)


def batches(rows: Sequence[SharedRow], tokens: int) -> list[list[SharedRow]]:
    """Rows, ordered by length, in batches of at most `tokens` tokens with their padding, at least one row each."""
    found: list[list[SharedRow]] = []
    for row in rows:
        if found and (len(found[-1]) + 1) * len(row) <= tokens:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def pack(rows: Sequence[SharedRow], pad: int) -> PackedRows:
    """Rows as tensors on the CPU."""
    shape = (len(rows), max(len(row) for row in rows))
    tokens, positions, segments = torch.full(shape, pad), torch.zeros(shape, dtype=torch.long), torch.full(shape, -1)
    for number, row in enumerate(rows):
        start = 0
        for segment, part in enumerate((row.opening, *row.continuations)):
            end = start + len(part)
            first = len(row.opening) if segment else 0
            tokens[number, start:end] = torch.tensor(part)
            positions[number, start:end] = torch.arange(first, first + len(part))
            segments[number, start:end] = segment
            start = end
    return PackedRows(tokens, positions, segments)


def _row(texts: Sequence[tuple[Tokens, Tokens]], opening: Tokens, places: Sequence[int]) -> SharedRow:
    return SharedRow(opening, tuple(texts[place][1] for place in places), tuple(places))
