"""One prompt and its answers as a reward model reads them, in rows that hold the prompt once.

Attention is causal, so the states of the prompt are the same before every answer. A row is the prompt, then all of
its answers one after the other; each answer sees the prompt and itself, at the positions it would have alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from ...base.errors import PrefmillError
from ..networks.text_reward import gate_pattern_of
from ..text import render_chat, token_ids


@dataclass(frozen=True)
class Dialogue:
    """Tokens up to the answer, tokens of the answer, where the prompt's turn ends, and whether anything was cut."""

    opening: tuple[int, ...]
    answer: tuple[int, ...]
    gate: int
    truncated: bool


@dataclass(frozen=True)
class Row:
    """A prompt's opening with some of its answers; `places` are the answers' numbers in the input."""

    opening: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    places: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.opening) + sum(len(answer) for answer in self.answers)


@dataclass(frozen=True)
class PackedRows:
    """Rows padded on the right: tokens, positions and segments [B, T].

    Segment 0 is the opening, 1 and on are the answers, -1 is padding.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    segments: torch.Tensor

    def visible(self) -> torch.Tensor | None:
        """What each token sees, [B, 1, T, T]; None where plain causal attention does, one answer to each row."""
        if int(self.segments.max()) <= 1:
            return None
        length = self.segments.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        same = self.segments[:, :, None] == self.segments[:, None, :]
        return ((same | (self.segments == 0)[:, None, :]) & causal)[:, None]


def tokenize_dialogue(tokenizer: PreTrainedTokenizerBase, prompt: str, response: str, max_length: int) -> Dialogue:
    """One row's tokens, cut to `max_length` so that the prompt's end and the answer's final token stay.

    Prompt and answer are tokenised apart: the template puts a special token and two line ends between them, so the
    result is that of the whole text, and the gate's place is known however the answer looks. Raises PrefmillError
    for a chat template that is not Llama-3's.
    """
    user = {"role": "user", "content": prompt}
    opening = render_chat(tokenizer, [user], add_generation_prompt=True)
    whole = render_chat(tokenizer, [user, {"role": "assistant", "content": response}])
    if not whole.startswith(opening):
        raise PrefmillError(
            "the chat template writes a finished dialogue differently from its opening.",
            "use the reward model's own tokenizer",
        )
    asked = token_ids(tokenizer, opening)
    answered = token_ids(tokenizer, whole[len(opening) :])
    pattern = gate_pattern_of(tokenizer)
    if asked[-len(pattern) :] != pattern:
        raise PrefmillError(
            "the chat template does not end a prompt with Llama-3's assistant header.",
            "use the reward model's own tokenizer",
        )
    content, answer_room = asked[: -len(pattern)], min(len(answered), max_length // 4)
    if len(asked) + len(answered) <= max_length:
        return Dialogue(tuple(asked), tuple(answered), len(content), False)
    content = content[: max(1, max_length - len(pattern) - answer_room)]
    room = max_length - len(content) - len(pattern)
    # The score is read at the final end-of-turn token, so that one stays.
    answered = [*answered[: room - 1], answered[-1]] if room < len(answered) else answered
    return Dialogue((*content, *pattern), tuple(answered), len(content), True)


def share_openings(dialogues: Sequence[Dialogue], longest: int) -> list[Row]:
    """Rows of at most `longest` tokens, the shortest first; a row of one answer may be longer."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, dialogue in enumerate(dialogues):
        groups.setdefault(dialogue.opening, []).append(place)
    rows = []
    for opening, places in groups.items():
        taken: list[int] = []
        length = len(opening)
        for place in places:
            if taken and length + len(dialogues[place].answer) > longest:
                rows.append(_row(dialogues, opening, taken))
                taken, length = [], len(opening)
            taken.append(place)
            length += len(dialogues[place].answer)
        rows.append(_row(dialogues, opening, taken))
    return sorted(rows, key=len)


def batches_of(rows: Sequence[Row], tokens: int) -> list[list[Row]]:
    """Rows, ordered by length, in batches of at most `tokens` tokens with their padding, at least one row each."""
    batches: list[list[Row]] = []
    for row in rows:
        if batches and (len(batches[-1]) + 1) * len(row) <= tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def pack(rows: Sequence[Row], pad: int) -> PackedRows:
    """Rows as tensors on the CPU."""
    shape = (len(rows), max(len(row) for row in rows))
    tokens, positions, segments = torch.full(shape, pad), torch.zeros(shape, dtype=torch.long), torch.full(shape, -1)
    for number, row in enumerate(rows):
        start = 0
        for segment, part in enumerate((row.opening, *row.answers)):
            end = start + len(part)
            first = len(row.opening) if segment else 0
            tokens[number, start:end] = torch.tensor(part)
            positions[number, start:end] = torch.arange(first, first + len(part))
            segments[number, start:end] = segment
            start = end
    return PackedRows(tokens, positions, segments)


def _row(dialogues: Sequence[Dialogue], opening: tuple[int, ...], places: Sequence[int]) -> Row:
    return Row(opening, tuple(dialogues[place].answer for place in places), tuple(places))
