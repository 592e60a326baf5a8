"""How good an answer is, exactly: what the micro world's text reward learns to predict without seeing the truth.

An answer is rated against a scene, the one that the prompt asks for. The five named attributes are ArmoRM's first
five; what it invents costs more than what it leaves out, because a wrong statement misleads and a missing one does not.
"""

import re
from dataclasses import dataclass

from ..world.language import COUNT_WORDS, Question, mentions, said_color, said_count, says_yes
from ..world.scenes import BACKGROUNDS, CELLS, COLOURS, KINDS, Scene

_WRONG_CLAIM_FACTOR = 0.5
_INCOHERENT_FACTOR = 0.4
_LONGEST = 32
_DETAILS = 10
_ITEM = rf"an? ({'|'.join(COLOURS)}) ({'|'.join(KINDS)}) at ({'|'.join(CELLS)})"
_KIND = rf"({'|'.join(KINDS)})"
_FORMS = {
    "describe": re.compile(rf"there is {_ITEM}( and {_ITEM})* on ({'|'.join(BACKGROUNDS)}) \."),
    "present": re.compile(rf"yes , there is an? {_KIND} \.|no , there is no {_KIND} \."),
    "color": re.compile(rf"the {_KIND} is ({'|'.join(COLOURS)}) \.|there is no {_KIND} \."),
    "count": re.compile(rf"there (is|are) ({'|'.join(COUNT_WORDS)}) things? \."),
}


@dataclass(frozen=True, slots=True)
class Rating:
    """All 0 to 1; `quality` is the judgement that preferences follow, `fitting` whether the form fits the question."""

    helpfulness: float
    correctness: float
    coherence: float
    complexity: float
    verbosity: float
    fitting: float
    quality: float

    @property
    def attributes(self) -> list[float]:
        """The 19 objectives of ArmoRM, in its order and scales: the first five are HelpSteer's 0 to 4 as (x + 0.5) / 5.

        Nothing in this world is unsafe (1) or code (0).
        """
        named = [self.helpfulness, self.correctness, self.coherence, self.complexity, self.verbosity]
        helpsteer = [(4 * value + 0.5) / 5 for value in named]
        general = [self.quality, self.fitting, self.correctness, self.correctness, self.helpfulness]
        return [*helpsteer, *general, 1.0, self.quality, self.quality, self.quality, 0.0, 0.0, 0.0, 0.0, 0.0]


def rate(scene: Scene, question: Question, answer: str) -> Rating:
    """Rate an answer to a question about a scene."""
    text = " ".join(re.findall(r"[a-z]+|[.,?]", answer.lower()))
    words = text.split()
    fitting = float(_FORMS[question.kind].fullmatch(text) is not None)
    coherent = float(any(form.fullmatch(text) for form in _FORMS.values()))
    correctness, completeness = _describe(scene, text) if question.kind == "describe" else _reply(scene, question, text)
    if not fitting:
        completeness *= 0.5
    details = sum(word in COLOURS or word in KINDS or word in {"left", "right"} for word in words)
    return Rating(
        helpfulness=correctness * completeness,
        correctness=correctness,
        coherence=coherent,
        complexity=min(1.0, details / _DETAILS),
        verbosity=min(1.0, len(words) / _LONGEST),
        fitting=fitting,
        quality=(0.5 * correctness + 0.4 * completeness + 0.1 * fitting) * (1 if coherent else _INCOHERENT_FACTOR),
    )


def claims(scene: Scene, question: Question, words: list[str]) -> list[bool | None]:
    """For each word of an answer whether what it claims is right; None for words that claim nothing.

    A kind's word speaks for its colour too, `left` and `right` for a place, and a first yes or no for the answer.
    """
    verdicts: list[bool | None] = [None] * len(words)
    kind = ""
    for place, word in enumerate(words):
        before = words[place - 1] if place else ""
        item = next((each for each in scene.items if each.kind == word), None)
        if place == 0 and question.kind == "present" and word in {"yes", "no"}:
            verdicts[place] = (word == "yes") == (question.subject in scene.kinds)
        elif word in KINDS:
            kind = word
            says_there = before != "no"
            right_colour = before not in COLOURS or (item is not None and item.colour == before)
            verdicts[place] = (item is not None) == says_there and (not says_there or right_colour)
        elif word in {"left", "right"} and f"{before} {word}" in CELLS and kind:
            verdicts[place] = any(CELLS[each.cell] == f"{before} {word}" for each in scene.items if each.kind == kind)
        elif word in COLOURS and question.kind == "color":
            verdicts[place] = any(each.colour == word for each in scene.items if each.kind == question.subject)
        elif word in BACKGROUNDS and before == "on":
            verdicts[place] = scene.background == word
        elif word in COUNT_WORDS and question.kind == "count":
            verdicts[place] = COUNT_WORDS.index(word) == len(scene.items)
    return verdicts


def _describe(scene: Scene, text: str) -> tuple[float, float]:
    """Correctness and completeness of a description."""
    there = {item.kind: item for item in scene.items}
    wrong, seen = 0, set()
    named = mentions(text)
    for mention in named:
        item = there.get(mention.kind)
        if item is None or mention.kind in seen:
            wrong += 1
            continue
        seen.add(mention.kind)
        wrong += mention.colour not in (None, item.colour)
        wrong += mention.cell not in (None, item.cell)
    grounds = re.findall(rf"on ({'|'.join(BACKGROUNDS)})", text)
    wrong += any(ground != scene.background for ground in grounds)
    if not named:
        return 0.0, 0.0
    return _WRONG_CLAIM_FACTOR**wrong, (len(seen) + 0.5 * bool(grounds)) / (len(there) + 0.5)


def _reply(scene: Scene, question: Question, text: str) -> tuple[float, float]:
    """Correctness and completeness of a short answer."""
    there = next((item for item in scene.items if item.kind == question.subject), None)
    if question.kind == "count":
        said = said_count(text)
        return float(said == len(scene.items)), float(said is not None)
    about = float(question.subject in text.split())
    if question.kind == "present":
        said = says_yes(text)
        agrees = (question.subject in {each.kind for each in mentions(text)}) == said
        right = said is not None and said == (there is not None) and (agrees or not about)
        return float(right), about
    if there is None:
        return float(said_color(text) is None and about > 0), about
    return float(said_color(text) == there.colour), about
