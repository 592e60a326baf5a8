"""A pair as one sequence, [image + instruction | chosen | rejected], and several of them in one batch.

The prompt is read once for both answers. Each answer sees the prompt and itself (attention.py), and both stand where
they would stand alone: their positions begin after the prompt. The prompt's last token predicts the first token of
both. Tokens are those of the trainer's usual two rows per pair (train/collate.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad as pad_right

from ...base.errors import PrefmillError
from ...pipeline.records import Pair
from ..collate import PairCollator, Tokenized
from ..data import conversation

LAYOUT_VERSION = 2
"""Part of the key of cached reference log-probabilities."""

Spans = tuple[int, int, int]
"""Tokens of a pair's prefix, chosen and rejected part."""


@dataclass(frozen=True)
class PairTokens:
    """A pair's tokens, the image's included. An answer's first `*_skipped` tokens belong to the prompt: see `split`."""

    prefix: list[int]
    chosen: list[int]
    rejected: list[int]
    chosen_skipped: int = 0
    rejected_skipped: int = 0

    @property
    def spans(self) -> Spans:
        """Lengths of the three parts."""
        return len(self.prefix), len(self.chosen), len(self.rejected)

    @property
    def branch(self) -> PairTokens:
        """The prompt and the chosen answer, to be read with another image."""
        return PairTokens(self.prefix, self.chosen, [], self.chosen_skipped)


@dataclass(frozen=True)
class Layout:
    """A batch of B pairs in R rows of length L.

    input_ids [R, L]; positions [R, L], or [3, R, L] where they are rows and columns; answer_rows [N]: which of the
    R * L hidden states predict an answer's token, targets [N]: that token, segments [N]: b for the chosen answer of
    pair b, B + b for the rejected one, 2B + b for the answer of its branch, never falling; chosen_tokens: how many of
    the N are of chosen answers, the first ones; spans: the pairs' lengths, row by row.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    answer_rows: torch.Tensor
    targets: torch.Tensor
    segments: torch.Tensor
    chosen_tokens: int
    spans: tuple[tuple[Spans, ...], ...]

    @property
    def tokens(self) -> int:
        """Tokens that are read, padding left out."""
        return sum(sum(pair) for row in self.spans for pair in row)

    def mask(self) -> torch.Tensor:
        """Who sees whom, [R, 1, L, L] boolean: for attention that takes a mask. Padding sees itself."""
        rows, length = self.input_ids.shape
        mask = torch.eye(length, dtype=torch.bool).repeat(rows, 1, 1)
        for row, pairs in enumerate(self.spans):
            start = 0
            for prefix, chosen, rejected in pairs:
                answers = start + prefix
                end = answers + chosen + rejected
                mask[row, start:end, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril()
                mask[row, answers + chosen : end, answers : answers + chosen] = False
                start = end
        return mask[:, None]


def split(collator: PairCollator, pair: Pair, image_size: tuple[int, int], system_prompt: str | None) -> PairTokens:
    """Return a pair's tokens in three parts. Raises PrefmillError for an answer without a token.

    Some tokenizers join the prompt's end with an answer's beginning. What both answers share ends before that; the
    rest of the prompt then stands before each answer and is not counted.
    """
    prompt = conversation(pair.instruction, system_prompt)
    chosen, rejected = (
        collator.tokenize(prompt, [{"role": "assistant", "content": text}]) for text in (pair.chosen, pair.rejected)
    )
    for side, text in ((chosen, "chosen"), (rejected, "rejected")):
        if side.prompt_length >= len(side.ids):
            raise PrefmillError(
                f"the {text} answer of pair {pair.id} has no token to learn from",
                "remove the pair from the run, or train with backend=trl",
            )
    shared = min(chosen.prompt_length, rejected.prompt_length)
    image = collator.image_ids(image_size)
    return PairTokens(
        _expanded(chosen.ids[:shared], collator, image),
        _expanded(chosen.ids[shared:], collator, image),
        _expanded(rejected.ids[shared:], collator, image),
        _skipped(chosen, shared),
        _skipped(rejected, shared),
    )


def lay_out(
    pairs: Sequence[PairTokens],
    pad: int,
    *,
    packed: bool,
    branches: Sequence[PairTokens] = (),
    prefixes: Sequence[torch.Tensor] | None = None,
) -> Layout:
    """Put pairs into one row, or (not `packed`) into a row each, padded on the right with the token `pad`.

    The pairs' `branches`, if any, follow as if they were further pairs. `prefixes` are the positions [3, P] of all
    their prompts; without them positions count up.
    """
    sequences = [*pairs, *branches]
    rows = [list(range(len(sequences)))] if packed else [[number] for number in range(len(sequences))]
    length = max(sum(sum(sequences[number].spans) for number in row) for row in rows)
    ids, positions = [], []
    sides: list[tuple[list[int], list[int]]] = [([], [])] * (2 * len(pairs) + len(branches))
    for row, numbers in enumerate(rows):
        row_ids: list[int] = []
        row_positions: list[torch.Tensor] = []
        for number in numbers:
            pair = sequences[number]
            row_ids += pair.prefix
            row_positions += _positions(pair, prefixes[number] if prefixes else None)
            last = row * length + len(row_ids) - 1
            answers = [
                (number, pair.chosen, pair.chosen_skipped),
                (len(pairs) + number, pair.rejected, pair.rejected_skipped),
            ]
            if number >= len(pairs):  # a branch: one answer, in the third block
                answers = [(len(pairs) + number, pair.chosen, pair.chosen_skipped)]
            for side, answer, skipped in answers:
                # the state before a token predicts it; before an answer's first that is the prompt's last
                at = row * length + len(row_ids)
                before = [last, *range(at, at + len(answer) - 1)]
                sides[side] = (before[skipped:], answer[skipped:])
                row_ids += answer
        missing = length - len(row_ids)
        ids.append(row_ids + [pad] * missing)
        positions.append(pad_right(torch.cat(row_positions, -1), (0, missing)))
    return Layout(
        input_ids=torch.tensor(ids),
        positions=torch.stack(positions, -2),
        answer_rows=torch.tensor([place for places, _ in sides for place in places]),
        targets=torch.tensor([token for _, tokens in sides for token in tokens]),
        segments=torch.repeat_interleave(torch.tensor([len(tokens) for _, tokens in sides])),
        chosen_tokens=sum(len(tokens) for _, tokens in sides[: len(pairs)]),
        spans=tuple(tuple(sequences[number].spans for number in numbers) for numbers in rows),
    )


def _positions(pair: PairTokens, prefix: torch.Tensor | None) -> list[torch.Tensor]:
    """Positions of a pair's three parts: both answers begin where the prompt ends."""
    if prefix is None:
        prefix = torch.arange(len(pair.prefix))
    after = prefix.max() + 1
    answers = [after + torch.arange(len(answer)) for answer in (pair.chosen, pair.rejected)]
    return [prefix, *(answer.expand(*prefix.shape[:-1], -1) for answer in answers)]


def _skipped(side: Tokenized, shared: int) -> int:
    return side.prompt_length - shared


def _expanded(ids: list[int], collator: PairCollator, image: list[int]) -> list[int]:
    placeholder: Any = collator.tokenizer.convert_tokens_to_ids(collator.processor.image_token)
    return [token for one in ids for token in (image if one == placeholder else [one])]
