"""What the text reward is taught from, as tokens: dialogues with several answers each, and what every word should know.

Dense labels make minutes of training suffice. At a kind's word the model should know which colour and place that kind
has in the prompt, or that it has none; at a place, whose it is; at a word that claims something, whether the prompt
bears it out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from ...engine.scorers.text_reward import gate_pattern_of
from ...engine.text import judge_prompt, render_chat
from ..world.language import (
    Question,
    caption,
    color_question,
    count_question,
    describe_instruction,
    present_question,
    true_answer,
)
from ..world.scenes import CELLS, COLOURS, KINDS, Scene
from .lessons import companions, description_with, invented_item
from .rated_answers import FLAWS, flawed_answer
from .rating import claims, rate

ANSWERS = 4
"""Answers to each question."""
UNKNOWN = -1
KNOWN_CLASSES = (2, 1 + len(COLOURS), 1 + len(CELLS), len(KINDS))
"""Of claim, colour, place and owner, the four things that a word can be asked for."""
_QUESTION_SHARES = {"describe": 0.30, "present": 0.45, "color": 0.19, "count": 0.06}
"""Mostly about one kind: whether a prompt names it is the hardest to learn, and the answers are short."""
_COMPANION_SHARE = 0.3


@dataclass(frozen=True)
class Words:
    """N texts padded to T tokens; input_ids, mask (1: a word) [N, T].

    `known` [N, T, 4] int64: at claims 1 right or 0 wrong; at kinds 1 + the colour's and 1 + the cell's number, 0 where
    the prompt has no such kind; at places the number of the kind last named; UNKNOWN elsewhere.
    """

    input_ids: torch.Tensor
    mask: torch.Tensor
    known: torch.Tensor


@dataclass(frozen=True)
class Dialogues:
    """C prompts, padded on the left, and ANSWERS answers to each, padded on the right, prompt by prompt.

    `attributes` [C * ANSWERS, 19] and `quality` [C * ANSWERS] are 0 to 1.
    """

    prompts: Words
    answers: Words
    attributes: torch.Tensor
    quality: torch.Tensor


class DialogueMaker:
    """Makes dialogues in the tokens and the chat form that the trained model will read."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.spelling = {number: word for word, number in tokenizer.get_vocab().items()}
        self.end, self.pad = tokenizer.get_vocab()["<|eot_id|>"], tokenizer.get_vocab()["<|pad|>"]
        self.gate_offset = len(gate_pattern_of(tokenizer))
        """The gate reads this many tokens before a prompt's end."""

    def make(self, scenes: Sequence[Scene], random: np.random.Generator) -> Dialogues:
        """A random question about each scene, with answers of all qualities."""
        prompts, answers, ratings = [], [], []
        for scene in scenes:
            kind = str(random.choice(list(_QUESTION_SHARES), p=list(_QUESTION_SHARES.values())))
            question = random_question(scene, kind, random)
            user = {"role": "user", "content": judge_prompt(caption(scene), question.text)}
            ids = self._ids(render_chat(self.tokenizer, [user], add_generation_prompt=True))
            prompts.append((ids, self._known(scene, None, ids)))
            for answer in graded_answers(scene, question, random):
                ids = [*self._ids(answer), self.end]
                answers.append((ids, self._known(scene, question, ids)))
                ratings.append(rate(scene, question, answer))
        return Dialogues(
            self._padded(prompts, left=True),
            self._padded(answers, left=False),
            torch.tensor([rating.attributes for rating in ratings]),
            torch.tensor([rating.quality for rating in ratings]),
        )

    def _known(self, scene: Scene, question: Question | None, ids: list[int]) -> list[list[int]]:
        """`question` is None for the prompt itself, which claims nothing."""
        words = [self.spelling[number] for number in ids]
        found = claims(scene, question, words) if question else [None] * len(words)
        there = {item.kind: (1 + COLOURS.index(item.colour), 1 + item.cell) for item in scene.items}
        rows, owner = [], UNKNOWN
        for claim, word in zip(found, words, strict=True):
            is_kind = word in KINDS
            owner = KINDS.index(word) if is_kind else owner
            colour, cell = there.get(word, (0, 0)) if is_kind else (UNKNOWN, UNKNOWN)
            if question is None and word in there:
                cell = UNKNOWN  # in a prompt the place comes after the kind
            is_place = word in {"left", "right"}
            rows.append([UNKNOWN if claim is None else int(claim), colour, cell, owner if is_place else UNKNOWN])
        return rows

    def _padded(self, texts: list[tuple[list[int], list[list[int]]]], *, left: bool) -> Words:
        length = max(len(ids) for ids, _ in texts)
        all_ids, masks, knowns = [], [], []
        for ids, known in texts:
            missing = length - len(ids)
            parts = [
                ([self.pad] * missing, [0] * missing, [[UNKNOWN] * len(KNOWN_CLASSES)] * missing),
                (ids, [1] * len(ids), known),
            ]
            before, after = parts if left else parts[::-1]
            all_ids.append(before[0] + after[0])
            masks.append(before[1] + after[1])
            knowns.append(before[2] + after[2])
        return Words(torch.tensor(all_ids), torch.tensor(masks), torch.tensor(knowns))

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[return-value]


def random_question(scene: Scene, kind: str, random: np.random.Generator) -> Question:
    """A question of a kind about a scene; of yes/no questions a half is about what is there."""
    if kind == "describe":
        return describe_instruction(int(random.integers(4)))
    if kind == "count":
        return count_question()
    there, near = sorted(scene.kinds), companions(scene)
    absent = near if near and random.random() < 0.5 else [each for each in KINDS if each not in there]
    if kind == "present":
        return present_question(str(random.choice(there if random.random() < 0.5 else absent)))
    return color_question(str(random.choice(there if random.random() < 0.9 else absent)))


def graded_answers(scene: Scene, question: Question, random: np.random.Generator) -> list[str]:
    """The true answer and others with one flaw each, ANSWERS in all."""
    answers = [true_answer(scene, question)]
    while len(answers) < ANSWERS:
        if question.kind == "describe" and random.random() < _COMPANION_SHARE:
            answers.append(description_with(scene, invented_item(scene, random)))
        else:
            answers.append(flawed_answer(scene, question, str(random.choice(FLAWS)), random))
    return answers
