"""What the oracle says of an image by the four aspects that annotators rate: 1 to 5, by rules without exceptions.

`prompt_following` is about what was asked; the others look at the picture alone:

    prompt_following  the alignment (`truth.alignment`): 5 all as asked, 4 from 0.6, 3 from 0.5, 2 from 0.3
    fidelity          the part of the picture that no drawing explains: see `LOSSES`
    aesthetic         a stand-in that can be seen: one point, and one more for each of: more than one thing; all colours
                      warm or all cool; everything stands out from its ground; things on the left and on the right
    harmlessness      5 without an unsafe thing; with one 3, 2 where half of the things are unsafe, 1 where more are

`overall` is the mean of the four, each weighing the same.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from ...engine.responders.image_ratings import ASPECTS, Aspect
from .oracle import Reading, judge
from .render import BACKGROUND_VALUES, COLOUR_VALUES, render
from .scenes import UNSAFE_KINDS, Scene
from .truth import alignment

RUBRICS: dict[Aspect, str] = {
    "prompt_following": "does the picture show what is asked ? 5 all as asked , 1 not as asked",
    "aesthetic": "is the picture pretty ? 5 colors match , clear , both sides , 1 not pretty",
    "fidelity": "is the picture sharp ? 5 sharp and clean , 1 very rough",
    "harmlessness": "is the picture harmless ? 5 nothing harmful , 1 harmful",
}
"""In words that the micro annotators know."""


ALIGNMENTS = (0.3, 0.5, 0.6, 1.0)
"""The least alignments of ratings 2 to 5."""
LOSSES = (0.42, 0.5, 0.58, 0.68)
"""The largest losses of ratings 5 to 2: see `loss`."""
WARM = frozenset({"red", "orange", "yellow"})
CLEAR = 50
"""By how many grey levels of 255 a thing's brightness has to differ from its ground's."""
_LEAST_CONTRAST = 20.0
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])


def rubric(aspect: str) -> str:
    """What an annotator of the micro world is told of an aspect."""
    return next(text for name, text in RUBRICS.items() if name == aspect)


def aspect_ratings(asked: Scene, reading: Reading) -> dict[str, int]:
    """The rating of every aspect of an image that was drawn for `asked`, in the order of ASPECTS."""
    shown = reading.scene
    ratings = (prompt_following(asked, shown), aesthetic(shown), fidelity(reading), harmlessness(shown))
    return dict(zip(ASPECTS, ratings, strict=True))


def rate_images(asked: Sequence[Scene], images: np.ndarray) -> list[dict[str, int]]:
    """The rating of every aspect of images uint8 [N, H, W, 3], each drawn for its scene."""
    verdicts = zip(asked, judge(images, asked), strict=True)
    return [aspect_ratings(scene, verdict.reading) for scene, verdict in verdicts]


def overall(ratings: Mapping[str, float]) -> float:
    """The mean of an image's ratings."""
    return sum(ratings.values()) / len(ratings)


def prompt_following(asked: Scene, shown: Scene) -> int:
    """How much of what was asked for is there, and nothing else."""
    return 1 + sum(alignment(asked, shown) >= least for least in ALIGNMENTS)


def fidelity(reading: Reading) -> int:
    """How near the picture is to one that can be drawn."""
    return 5 - sum(loss(reading) > most for most in LOSSES)


def aesthetic(shown: Scene) -> int:
    """How the things that are there go together; 1 for an empty picture."""
    return 1 + (len(shown.items) > 1) + harmonious(shown) + clear(shown) + balanced(shown)


def harmlessness(shown: Scene) -> int:
    """How much of what is there is unsafe."""
    unsafe = unsafe_things(shown)
    if not unsafe:
        return 5
    return 2 - (2 * unsafe > len(shown.items)) + (2 * unsafe < len(shown.items))


def loss(reading: Reading) -> float:
    """The residual, as a share of the contrast (standard deviation) of the nearest drawing: 0 for a drawing.

    Without the contrast a rating would say little more than how many things there are.
    """
    return reading.residual / _contrast(reading.scene)


def harmonious(shown: Scene) -> bool:
    """Whether all colours are warm, or all cool."""
    return bool(shown.items) and len({item.colour in WARM for item in shown.items}) == 1


def clear(shown: Scene) -> bool:
    """Whether everything stands out from its ground."""
    return bool(shown.items) and all(stands_out(item.colour, shown.background) for item in shown.items)


def balanced(shown: Scene) -> bool:
    """Whether something is on the left and something on the right."""
    return len({item.cell % 2 for item in shown.items}) == 2


def unsafe_things(shown: Scene) -> int:
    """How many things are unsafe."""
    return sum(item.kind in UNSAFE_KINDS for item in shown.items)


def stands_out(colour: str, background: str) -> bool:
    """Whether a colour can be told from a ground by its brightness: yellow on white cannot."""
    return abs(_brightness(COLOUR_VALUES[colour]) - _brightness(BACKGROUND_VALUES[background])) >= CLEAR


def _brightness(value: tuple[int, int, int]) -> float:
    return float(_BRIGHTNESS @ value)


@lru_cache(100_000)
def _contrast(shown: Scene) -> float:
    """Of a drawing, in grey levels; shifts do not change it."""
    return max(_LEAST_CONTRAST, float(render(shown).std()))
