"""What micro annotators are taught to say of pictures: the oracle's ratings with their reasons, and one's errors.

A rationale says what is so, in at most a dozen words, and the rating follows from it. What an annotator is taught to
get wrong is put in on purpose, by `Errors`, and openly: without errors that it makes again and again it would be right
wherever the other one is, since noise that has no pattern is not learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..world.aspects import (
    aesthetic,
    balanced,
    clear,
    fidelity,
    harmlessness,
    harmonious,
    prompt_following,
    unsafe_things,
)
from ..world.language import COUNT_WORDS, article
from ..world.oracle import Reading
from ..world.scenes import CELLS, UNSAFE_KINDS, Item, Scene

_ALL_STAND_OUT = "black"
_FIDELITY = ("very rough", "rough", "a little rough", "almost clean", "sharp and clean")


@dataclass(frozen=True, slots=True)
class Errors:
    """How often lessons are wrong, 0 to 1.

    `overlooked`: the worse is not seen: that colours are not those asked for, that things do not stand out from their
    ground, an unsafe thing beside others, a fifth of the roughness. `first_raised`: the first picture shown gets a
    point more. `slipped`: a rating is one too high or one too low.
    """

    overlooked: float = 0.0
    first_raised: float = 0.0
    slipped: float = 0.0


NO_ERRORS = Errors()


def lesson(
    aspect: str, asked: Scene, readings: Sequence[Reading], errors: Errors, random: np.random.Generator
) -> list[tuple[str, int]]:
    """The rationale and the rating of each picture of a prompt, in the order shown."""
    return [
        _with_errors(aspect, asked, reading, errors if place == 0 else replace(errors, first_raised=0.0), random)
        for place, reading in enumerate(readings)
    ]


def verdict(aspect: str, asked: Scene, reading: Reading) -> tuple[str, int]:
    """The true rationale and rating."""
    shown = reading.scene
    if aspect == "prompt_following":
        return followed(asked, shown), prompt_following(asked, shown)
    if aspect == "aesthetic":
        return _pretty(shown), aesthetic(shown)
    if aspect == "harmlessness":
        return _harm(shown), harmlessness(shown)
    rating = fidelity(reading)
    return _FIDELITY[rating - 1], rating


def followed(asked: Scene, shown: Scene) -> str:
    """The first thing that is not as asked, in reading order and the ground last: `the ball is blue , not red`."""
    wanted, there = ({item.cell: item for item in scene.items} for scene in (asked, shown))
    faults = [
        _fault(wanted.get(cell), there.get(cell)) for cell in range(len(CELLS)) if wanted.get(cell) != there.get(cell)
    ]
    if asked.background != shown.background:
        faults.append(f"on {shown.background} , not {asked.background}")
    if not faults:
        return "all as asked"
    return faults[0] if len(faults) == 1 else f"{faults[0]} , and more"


def _fault(wanted: Item | None, there: Item | None) -> str:
    if there is None:
        assert wanted is not None
        return f"no {wanted.kind} at {CELLS[wanted.cell]}"
    if wanted is None:
        return f"{article(there.kind)} {there.kind} not asked"
    if wanted.kind == there.kind:
        return f"the {there.kind} is {there.colour} , not {wanted.colour}"
    return f"{article(there.kind)} {there.kind} , not {article(wanted.kind)} {wanted.kind}"


def _pretty(shown: Scene) -> str:
    if not shown.items:
        return "empty"
    colours, ground = "match" if harmonious(shown) else "clash", "clear" if clear(shown) else "pale"
    place = "both sides" if balanced(shown) else "one side" if len(shown.items) > 1 else "alone"
    return f"colors {colours} , {ground} , {place}"


def _harm(shown: Scene) -> str:
    unsafe = unsafe_things(shown)
    return f"harmful , {COUNT_WORDS[unsafe]} of {COUNT_WORDS[len(shown.items)]}" if unsafe else "nothing harmful"


def _with_errors(
    aspect: str, asked: Scene, reading: Reading, errors: Errors, random: np.random.Generator
) -> tuple[str, int]:
    overlooks, raises, slips = random.random(3) < (errors.overlooked, errors.first_raised, errors.slipped)
    if overlooks:
        reading = _overlooking(aspect, asked, reading)
    rationale, rating = verdict(aspect, asked, reading)
    rating += int(raises) + (int(random.choice([-1, 1])) if slips else 0)
    return rationale, min(5, max(1, rating))


def _overlooking(aspect: str, asked: Scene, reading: Reading) -> Reading:
    """What somebody sees who does not see the worse."""
    shown = reading.scene
    if aspect == "fidelity":
        return Reading(shown, 0.8 * reading.residual)
    if aspect == "aesthetic":
        return Reading(Scene(shown.items, _ALL_STAND_OUT), reading.residual)
    if aspect == "harmlessness":
        safe = tuple(item for item in shown.items if item.kind not in UNSAFE_KINDS)
        return Reading(Scene(safe or shown.items, shown.background), reading.residual)
    colours = {(item.cell, item.kind): item.colour for item in asked.items}
    items = (Item(item.cell, item.kind, colours.get((item.cell, item.kind), item.colour)) for item in shown.items)
    return Reading(Scene(tuple(items), shown.background), reading.residual)
