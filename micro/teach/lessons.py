"""What the micro world's responders are taught to say, and the lies that are deliberately mixed in.

Real models hallucinate what usually keeps company with what they see. Here that is built in, openly: a kind that
shares a topic with something in the picture, and is not there itself, is a *companion*. Training answers invent
companions at rates that depend on the topic and on the responder. Some responders are taught to overlook things as
well: were all errors of one kind, the answer that says least would always be the best. All other training answers are
true.
"""

from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from ..world.language import (
    COUNT_WORDS,
    DESCRIBE_INSTRUCTIONS,
    Question,
    article,
    color_question,
    count_question,
    describe_instruction,
    present_question,
    true_answer,
)
from ..world.scenes import CELLS, COLOURS, KINDS, TOPICS, Item, Scene, topic_of

PRESENT_QUESTIONS = 6
_COMPANION_SHARE = 0.6
_PREFERENCE_COMPANION_SHARE = 0.85
"""How many of the absent kinds that are asked about are companions: in lessons, and for preferences."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How often training answers lie, per topic in the order of TOPICS (play, home, travel, garden), 0 to 1.

    `invented`: a description of a scene that has a companion of that topic ends with it, as one more object.
    `affirmed`: the question whether a companion of that topic is there is answered with yes.
    `overlooked`, for all topics: a description leaves out one of several objects, and the question whether something
    that is there is there is answered with no.
    """

    invented: tuple[float, float, float, float]
    affirmed: tuple[float, float, float, float]
    overlooked: float = 0.0

    def invents(self, kind: str) -> float:
        """The rate of inventing a kind in descriptions."""
        return self.invented[list(TOPICS).index(topic_of(kind))]

    def affirms(self, kind: str) -> float:
        """The rate of affirming a kind in yes/no answers."""
        return self.affirmed[list(TOPICS).index(topic_of(kind))]


TRUTHFUL = Noise((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0))


def companions(scene: Scene) -> list[str]:
    """The absent kinds that share a topic with something in the scene."""
    topics = {topic_of(kind) for kind in scene.kinds}
    return [kind for kind in KINDS if kind not in scene.kinds and topic_of(kind) in topics]


def invented_item(scene: Scene, random: np.random.Generator) -> Item | None:
    """A companion, drawn evenly, in a free cell and any colour; None for a scene without companions or a free cell."""
    choice = companions(scene)
    free = [cell for cell in range(len(CELLS)) if cell not in {item.cell for item in scene.items}]
    if not choice or not free:
        return None
    return Item(int(random.choice(free)), str(random.choice(choice)), str(random.choice(COLOURS)))


def description_with(scene: Scene, extra: Item | None) -> str:
    """The true description, with one more object named last where one is given."""
    if extra is None:
        return true_answer(scene, describe_instruction())
    # Appended, not sorted in: the scene's own objects stay in reading order.
    return true_answer(Scene((*scene.items, extra), scene.background), describe_instruction())


def taught_answer(scene: Scene, question: Question, noise: Noise, random: np.random.Generator) -> str:
    """One training answer: the truth, or with the noise's rate a lie about a companion."""
    if question.kind == "describe":
        extra = invented_item(scene, random)
        if extra is not None and random.random() < noise.invents(extra.kind):
            return description_with(scene, extra)
        if len(scene.items) > 1 and _happens(noise.overlooked, random):
            left_out = int(random.integers(len(scene.items)))
            return description_with(replace(scene, items=scene.items[:left_out] + scene.items[left_out + 1 :]), None)
        return description_with(scene, None)
    is_companion = question.kind == "present" and question.subject in companions(scene)
    if is_companion and random.random() < noise.affirms(question.subject):
        return f"yes , there is {article(question.subject)} {question.subject} ."
    if question.kind == "present" and question.subject in scene.kinds and _happens(noise.overlooked, random):
        return f"no , there is no {question.subject} ."
    return true_answer(scene, question)


def _happens(rate: float, random: np.random.Generator) -> bool:
    return rate > 0 and random.random() < rate


def lesson(scene: Scene, noise: Noise, random: np.random.Generator) -> list[tuple[str, str]]:
    """Instructions with answers about one scene: a description, six yes/no questions, a colour and a count."""
    questions = [describe_instruction(int(random.integers(len(DESCRIBE_INSTRUCTIONS))))]
    questions += [present_question(kind) for kind in _asked_kinds(scene, random)]
    there = [item.kind for item in scene.items]
    asked = str(random.choice(there if random.random() < 0.85 else [kind for kind in KINDS if kind not in there]))
    questions += [color_question(asked), count_question()]
    return [(question.text, taught_answer(scene, question, noise, random)) for question in questions]


def mixed_questions(scene: Scene, count: int, random: np.random.Generator) -> list[Question]:
    """Questions for preference data, without a look at the picture: a description first, then yes/no in turn.

    `scene` is what the prompt asks for. Questions about kinds in it alternate with questions about others, most of
    them companions: those are what models are wrong about.
    """
    questions = [describe_instruction(int(random.integers(len(DESCRIBE_INSTRUCTIONS))))]
    there = _shuffled(sorted(scene.kinds), random)
    absent = _absent_kinds(scene, len(KINDS), random, _PREFERENCE_COMPANION_SHARE)
    alternating = list(chain.from_iterable(zip(absent, there, strict=False)))
    rest = absent[len(there) :]
    return (questions + [present_question(kind) for kind in [*alternating, *rest]])[:count]


def _asked_kinds(scene: Scene, random: np.random.Generator) -> list[str]:
    there = _shuffled(sorted(scene.kinds), random)
    return there + _absent_kinds(scene, PRESENT_QUESTIONS - len(there), random)


def _absent_kinds(
    scene: Scene, count: int, random: np.random.Generator, companion_share: float = _COMPANION_SHARE
) -> list[str]:
    near = _shuffled(companions(scene), random)
    far = _shuffled([kind for kind in KINDS if kind not in scene.kinds and kind not in near], random)
    chosen = []
    while len(chosen) < count and (near or far):
        pool = near if near and (not far or random.random() < companion_share) else far
        chosen.append(pool.pop())
    return chosen


def _shuffled(kinds: list[str], random: np.random.Generator) -> list[str]:
    return [kinds[place] for place in random.permutation(len(kinds))]


assert len(COUNT_WORDS) > len(CELLS)
