"""The micro world's English: prompts, instructions, true answers, and what an answer says, read back from it.

One word is one token and nothing has two names, so what a description mentions can be counted without doubt: that is
what hallucination rates need.
"""

import re
from dataclasses import dataclass
from typing import Literal

from .scenes import BACKGROUNDS, CELLS, COLOURS, KINDS, Item, Scene

QuestionKind = Literal["describe", "present", "color", "count"]

COUNT_WORDS: tuple[str, ...] = ("no", "one", "two", "three", "four")
DESCRIBE_INSTRUCTIONS: tuple[str, ...] = (
    "describe the picture .",
    "what is in the picture ?",
    "what do you see ?",
    "tell me what the picture shows .",
)
_ARTICLE_AN = ("orange",)
_PLACES = {cell: number for number, cell in enumerate(CELLS)}
_OBJECT = re.compile(
    rf"(?:\b(?P<no>no|not an?|any)\s+)?(?:\b(?P<colour>{'|'.join(COLOURS)})\s+)?\b(?P<kind>{'|'.join(KINDS)})s?\b"
    rf"(?:\s+(?:is\s+)?(?:at|in)\s+(?:the\s+)?(?P<cell>{'|'.join(CELLS)})\b)?"
)
_GROUND = re.compile(rf"\bon (?:an? )?(?P<background>{'|'.join(BACKGROUNDS)})\b")


@dataclass(frozen=True, slots=True)
class Question:
    """One instruction about a picture; `subject` is the kind that `present` and `color` ask about."""

    kind: QuestionKind
    text: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Mention:
    """One object that a text says is there; `colour` and `cell` are None where it does not say them."""

    kind: str
    colour: str | None = None
    cell: int | None = None


def caption(scene: Scene) -> str:
    """The prompt of a scene: `a red ball at top left and a blue boat at bottom right on gray`."""
    return f"{_listed(scene)} on {scene.background}"


def describe(scene: Scene) -> str:
    """The true description: `there is a red ball at top left and a blue boat at bottom right on gray .`"""
    return f"there is {_listed(scene)} on {scene.background} ."


def describe_instruction(number: int = 0) -> Question:
    """One of the ways to ask for a description."""
    return Question("describe", DESCRIBE_INSTRUCTIONS[number % len(DESCRIBE_INSTRUCTIONS)])


def present_question(kind: str) -> Question:
    """`is there a boat ?`"""
    return Question("present", f"is there {article(kind)} {kind} ?", kind)


def color_question(kind: str) -> Question:
    """`what color is the boat ?`"""
    return Question("color", f"what color is the {kind} ?", kind)


def count_question() -> Question:
    """`how many things are there ?`"""
    return Question("count", "how many things are there ?")


def true_answer(scene: Scene, question: Question) -> str:
    """The right answer to a question about a scene, as a sentence."""
    if question.kind == "describe":
        return describe(scene)
    if question.kind == "count":
        count = len(scene.items)
        return f"there {'is' if count == 1 else 'are'} {COUNT_WORDS[count]} thing{'' if count == 1 else 's'} ."
    found = next((item for item in scene.items if item.kind == question.subject), None)
    if question.kind == "present":
        named = f"{article(question.subject)} {question.subject}"
        return f"yes , there is {named} ." if found else f"no , there is no {question.subject} ."
    return f"the {question.subject} is {found.colour} ." if found else f"there is no {question.subject} ."


def mentions(text: str) -> list[Mention]:
    """The objects that a text says are there, in its order; what it denies (`no boat`) does not count."""
    return [
        Mention(match["kind"], match["colour"], _PLACES[re.sub(r"\s+", " ", match["cell"])] if match["cell"] else None)
        for match in _OBJECT.finditer(_plain(text))
        if not match["no"]
    ]


def mentioned_kinds(text: str) -> set[str]:
    """The kinds that a text says are there."""
    return {mention.kind for mention in mentions(text)}


def parse_caption(text: str) -> Scene | None:
    """The scene of a caption or a full description, or None where something is missing or said twice."""
    found = mentions(text)
    ground = _GROUND.search(_plain(text))
    items = [Item(each.cell, each.kind, each.colour) for each in found if each.cell is not None and each.colour]
    if ground is None or not 0 < len(items) == len(found):
        return None
    if len({item.cell for item in items}) < len(items) or len({item.kind for item in items}) < len(items):
        return None
    return Scene(tuple(sorted(items)), ground["background"])


def says_yes(text: str) -> bool | None:
    """Whether an answer begins with yes or no; None where with neither."""
    words = _plain(text).split()
    return {"yes": True, "no": False}.get(words[0]) if words else None


def said_color(text: str) -> str | None:
    """The first colour that a text names."""
    return next((word for word in _plain(text).split() if word in COLOURS), None)


def said_count(text: str) -> int | None:
    """The first number that a text names."""
    return next((COUNT_WORDS.index(word) for word in _plain(text).split() if word in COUNT_WORDS), None)


def article(word: str) -> str:
    """`an` before orange, else `a`."""
    return "an" if word in _ARTICLE_AN else "a"


def _listed(scene: Scene) -> str:
    parts = [f"{article(item.colour)} {item.colour} {item.kind} at {CELLS[item.cell]}" for item in scene.items]
    return " and ".join(parts)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z]+", text.lower()))


def _words() -> tuple[str, ...]:
    texts = [*DESCRIBE_INSTRUCTIONS, "yes no not any there is are thing things a an the at in on and", *COUNT_WORDS]
    texts += ["is there a what color is the how many things are there", *KINDS, *COLOURS, *CELLS, *BACKGROUNDS]
    return tuple(sorted({word for text in texts for word in _plain(text).split()}))


WORDS: tuple[str, ...] = _words()
"""Every word the micro world's texts use; besides them only `.`, `,` and `?`."""
