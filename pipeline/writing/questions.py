"""Questions and requests about an image, made from nothing but the image's text-to-image prompt.

Synth-Align asked GPT-4 for them and did not publish its request; the one in `texts/instructions.txt` is ours. The
writer that needs no model puts things that the prompt names into forms (`texts/questions.yaml`).
"""

from __future__ import annotations

import re

from ...base.errors import PrefmillError
from .grammar import Grammar, number_for
from .reading import Reader
from .things import things_in
from .wording import Wording, fill

REQUEST, KINDS = "instructions.txt", "questions.yaml"
MOST_THINGS = 4
"""A prompt names what it is about before what is around it."""
_GIVEN: tuple[str, ...] = ("thing", "another")
_INSTEAD = ("main subject", "background")  # where a prompt names no two things

QUESTION_READER = Reader(
    fewest_words=3,
    most_words=80,
    forbidden=re.compile(
        r"\b(?:descriptions? (?:above|given|provided)|(?:the|this|your) prompt|text-to-image)\b", re.I
    ),
    forbidden_reason="mentions_prompt",
)
"""What a usable question is; one that gives away that there was a prompt could not be answered from the image."""


class Questions:
    """The kinds of questions of a wording. Raises PrefmillError for a file that is not as it should be."""

    def __init__(self, wording: Wording) -> None:
        values, origin = wording.table(KINDS), str(wording.path(KINDS))
        kinds, rules = values.get("kinds"), values.get("grammar")
        if not isinstance(kinds, dict) or not kinds or not isinstance(rules, dict):
            raise PrefmillError(f"{origin} lacks kinds or a grammar", "see the built-in one")
        if missing := [kind for kind in kinds if kind not in rules]:
            raise PrefmillError(f"{origin}: the kind {missing[0]!r} has no forms", "add them to its grammar")
        self.kinds = {str(kind): str(hint) for kind, hint in kinds.items()}
        self.grammar = Grammar(rules, origin, _GIVEN)
        self.request = wording.request(REQUEST, ("prompt",), ("count", "kinds", "topic"))

    def chosen(self, image: str, count: int) -> list[str]:
        """Return the kinds of an image's questions: all before one comes again, in an order that is the image's own."""
        order = sorted(self.kinds, key=lambda kind: number_for("kind", image, kind))
        return [order[place % len(order)] for place in range(count)]

    def write(self, image: str, prompt: str, count: int) -> list[str]:
        """Return `count` different questions about an image, fewer where the forms do not give so many."""
        things = things_in(prompt)[:MOST_THINGS]
        texts: dict[str, None] = {}
        for place, kind in enumerate(self.chosen(image, 4 * count)):
            if len(texts) == count:
                break
            number = number_for("question", image, place)
            number, first = divmod(number, max(len(things), 1))
            number, step = divmod(number, max(len(things) - 1, 1))
            given = [things[first], things[(first + 1 + step) % len(things)]] if len(things) > 1 else [*things]
            filled = dict(zip(_GIVEN, [*given, *_INSTEAD[len(given) :]], strict=True))
            texts[self.grammar.write(kind, number, filled)] = None
        return list(texts)

    def request_for(self, image: str, prompt: str, topic: str, count: int) -> str:
        """Return what a model is asked for an image's questions."""
        kinds = "\n".join(f"- {self.kinds[kind]}" for kind in self.chosen(image, count))
        return fill(self.request, {"prompt": prompt, "topic": topic, "count": str(count), "kinds": kinds})
