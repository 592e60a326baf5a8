"""Answers of every quality to one question, for the text reward to learn from: right, wrong, incomplete, garbled."""

from dataclasses import replace

import numpy as np

from ..world.language import COUNT_WORDS, Question, article, present_question, true_answer
from ..world.scenes import BACKGROUNDS, CELLS, COLOURS, KINDS, Item, Scene
from .lessons import description_with

FLAWS = ("invented", "recoloured", "moved", "exchanged", "ground", "incomplete", "garbled", "unfitting")


def flawed_answer(scene: Scene, question: Question, flaw: str, random: np.random.Generator) -> str:
    """An answer that differs from the true one by `flaw` (one of FLAWS).

    A flaw that the question leaves no room for becomes the nearest one that it does: a short answer is simply wrong.
    """
    if flaw == "garbled":
        return garbled(true_answer(scene, question), random)
    if flaw == "unfitting":
        kind = str(random.choice(KINDS))
        other = present_question(kind) if question.kind != "present" else Question("describe", "")
        return true_answer(scene, other)
    if question.kind == "describe":
        return _flawed_description(scene, flaw, random)
    return _wrong_reply(scene, question, random)


def garbled(text: str, random: np.random.Generator) -> str:
    """A text with its words shuffled, some lost, one stuttered, or its end cut off."""
    words = text.split()
    way = int(random.integers(4))
    if way == 0:
        return " ".join(words[place] for place in random.permutation(len(words)))
    if way == 1:
        kept = random.random(len(words)) > 0.3
        return " ".join(word for word, keep in zip(words, kept, strict=True) if keep) or words[0]
    if way == 2:
        place = int(random.integers(len(words)))
        return " ".join([*words[:place], *[words[place]] * int(random.integers(2, 6)), *words[place + 1 :]])
    return " ".join(words[: int(random.integers(1, len(words)))])


def _flawed_description(scene: Scene, flaw: str, random: np.random.Generator) -> str:
    items = list(scene.items)
    place = int(random.integers(len(items)))
    item = items[place]
    free = [cell for cell in range(len(CELLS)) if cell not in {each.cell for each in items}]
    absent = [kind for kind in KINDS if kind not in scene.kinds]
    if flaw == "ground":
        others = [ground for ground in BACKGROUNDS if ground != scene.background]
        return description_with(replace(scene, background=str(random.choice(others))), None)
    if flaw == "recoloured":
        colours = [colour for colour in COLOURS if colour != item.colour]
        items[place] = replace(item, colour=str(random.choice(colours)))
    elif flaw == "moved":
        items[place] = replace(item, cell=int(random.choice(free)))
    elif flaw == "exchanged":
        items[place] = replace(item, kind=str(random.choice(absent)))
    elif flaw == "incomplete" and len(items) > 1:
        items.pop(place)
    else:
        items.append(Item(int(random.choice(free)), str(random.choice(absent)), str(random.choice(COLOURS))))
    return description_with(Scene(tuple(items), scene.background), None)


def _wrong_reply(scene: Scene, question: Question, random: np.random.Generator) -> str:
    if question.kind == "count":
        count = int(random.choice([number for number in range(1, len(COUNT_WORDS)) if number != len(scene.items)]))
        return f"there {'is' if count == 1 else 'are'} {COUNT_WORDS[count]} thing{'' if count == 1 else 's'} ."
    there = next((item for item in scene.items if item.kind == question.subject), None)
    if question.kind == "present":
        if there:
            return f"no , there is no {question.subject} ."
        return f"yes , there is {article(question.subject)} {question.subject} ."
    colours = [colour for colour in COLOURS if there is None or colour != there.colour]
    if there and random.random() < 0.2:
        return f"there is no {question.subject} ."
    return f"the {question.subject} is {random.choice(colours)} ."
