"""The micro world: scenes so small that what is in them is exactly known.

A scene is one to three objects on a plain ground, each in one of four cells. 70 % of the objects come from the
scene's topic, so that some things tend to appear together, as they do in photographs: that is what a model can learn
to hallucinate from. Splits are by combination: the set of (kind, colour) pairs decides whether a scene belongs to
train, dev or test, so that no test scene is a rearrangement of a training scene. Every kind, every colour and every
pair of the two is seen in training, only not in the held-out company.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ...base.errors import PrefmillError

Split = Literal["train", "dev", "test"]

TOPICS: dict[str, tuple[str, str, str]] = {
    "play": ("ball", "kite", "box"),
    "home": ("cup", "knife", "lamp"),
    "travel": ("boat", "car", "plane"),
    "garden": ("tree", "flower", "bird"),
}
KINDS: tuple[str, ...] = tuple(kind for kinds in TOPICS.values() for kind in kinds)
UNSAFE_KINDS: frozenset[str] = frozenset({"knife"})
"""Stand-ins for harm: a picture is harmful if one of these is in it."""
COLOURS: tuple[str, ...] = ("red", "orange", "yellow", "green", "blue", "purple")
CELLS: tuple[str, ...] = ("top left", "top right", "bottom left", "bottom right")
BACKGROUNDS: tuple[str, ...] = ("white", "gray", "black")

TOPIC_SHARE = 0.7
COUNT_SHARES = (0.2, 0.4, 0.4)
"""How many scenes have one, two and three objects."""

_TENTHS: dict[Split, range] = {"test": range(1), "dev": range(1, 2), "train": range(2, 10)}
_TRIES = 20_000
"""Draws without a new scene after which a split counts as exhausted."""
_TOPIC_NAMES = tuple(TOPICS)
_COUNT_LIMITS = np.cumsum(COUNT_SHARES)


@dataclass(frozen=True, order=True, slots=True)
class Item:
    """One object; `cell` is an index into CELLS (reading order)."""

    cell: int
    kind: str
    colour: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What is in a picture: items in reading order, of different kinds and in different cells.

    `topic` is what the scene was drawn for; it cannot be seen, so two scenes that look alike are equal.
    """

    items: tuple[Item, ...]
    background: str
    topic: str = field(default="", compare=False)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds in the scene."""
        return frozenset(item.kind for item in self.items)

    @property
    def combination(self) -> str:
        """The (kind, colour) pairs without their places, as text: what splits are made by."""
        return "+".join(sorted(f"{item.colour} {item.kind}" for item in self.items))

    @property
    def split(self) -> Split:
        """The split that the combination belongs to: 80 % train, 10 % dev, 10 % test."""
        tenth = int.from_bytes(hashlib.sha256(self.combination.encode()).digest()[:8], "big") % 10
        return next(split for split, tenths in _TENTHS.items() if tenth in tenths)


def topic_of(kind: str) -> str:
    """The topic that a kind belongs to."""
    return next(topic for topic, kinds in TOPICS.items() if kind in kinds)


def draw_scene(random: np.random.Generator) -> Scene:
    """Draw one scene of any split."""
    # `integers`, not `choice`: the same stream of draws at a tenth of the time.
    topic = _TOPIC_NAMES[random.integers(len(_TOPIC_NAMES))]
    count = 1 + int(_COUNT_LIMITS.searchsorted(random.random(), side="right"))
    inside = list(TOPICS[topic])
    outside = [kind for kind in KINDS if kind not in inside]
    items = []
    for cell in random.permutation(len(CELLS))[:count].tolist():
        pool = inside if random.random() < TOPIC_SHARE else outside
        kind = pool.pop(random.integers(len(pool)))
        items.append(Item(cell, kind, COLOURS[random.integers(len(COLOURS))]))
    return Scene(tuple(sorted(items)), BACKGROUNDS[random.integers(len(BACKGROUNDS))], topic)


def sample_scenes(split: Split, count: int, seed: int, *, distinct: bool = True) -> list[Scene]:
    """Draw `count` scenes of one split, by default no two alike.

    Raises PrefmillError where the split does not have that many different scenes.
    """
    random = np.random.default_rng([seed, *split.encode()])
    scenes: list[Scene] = []
    seen: set[Scene] = set()
    misses = 0
    while len(scenes) < count:
        scene = draw_scene(random)
        if scene.split != split or (distinct and scene in seen):
            misses += 1
            if misses == _TRIES:
                raise PrefmillError(
                    f"split {split!r} gave only {len(scenes)} of {count} different scenes.",
                    "ask for fewer, or distinct=False",
                )
            continue
        misses = 0
        seen.add(scene)
        scenes.append(scene)
    return scenes
