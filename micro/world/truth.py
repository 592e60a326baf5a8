"""Truth about an image of a scene: how far it is what was asked for, and densely, for every cell and every word.

One label for a whole image teaches little; a label for each cell and each word makes minutes of training suffice.
"""

from collections.abc import Iterator

import numpy as np
import torch

from .scenes import BACKGROUNDS, CELLS, COLOURS, KINDS, Item, Scene

WORDS_PER_ITEM = 7
"""`a red ball at top left and`: a caption's k-th item begins at word 7 k, and the ground's word is its last."""
UNKNOWN = -1.0
UNKNOWN_CLASS = -100


def alignment(asked: Scene, shown: Scene) -> float:
    """The share of what was asked for that an image of `shown` has, of all that is asked for or there: 0 to 1.

    Objects count in kind, colour and place, and the ground as one more; 1 only where the two are the same.
    """
    wanted, there = set(asked.items), set(shown.items)
    return (len(wanted & there) + (asked.background == shown.background)) / (len(wanted | there) + 1)


def cell_labels(scenes: list[Scene]) -> torch.Tensor:
    """What is in each cell: long [N, 4, 2], kind and colour, each with 0 for nothing and 1 up for the names."""
    labels = torch.zeros(len(scenes), len(CELLS), 2, dtype=torch.long)
    for row, scene in enumerate(scenes):
        for item in scene.items:
            labels[row, item.cell, 0] = 1 + KINDS.index(item.kind)
            labels[row, item.cell, 1] = 1 + COLOURS.index(item.colour)
    return labels


def ground_labels(scenes: list[Scene]) -> torch.Tensor:
    """The ground of each scene: long [N]."""
    return torch.tensor([BACKGROUNDS.index(scene.background) for scene in scenes])


def word_truth(asked: Scene, shown: Scene, length: int) -> np.ndarray:
    """Which words of the prompt `asked` are true of an image of `shown`: float32 [length], UNKNOWN for most words.

    Position 0 is [CLS]. A colour and a kind are true where the asked cell has them; a place (`left`, `right`) where
    the whole object is there; the ground's word where the ground is that.
    """
    truth = np.full(length, UNKNOWN, np.float32)
    for start, item, found in _looked_for(asked, shown):
        truth[start + 1] = found is not None and found.colour == item.colour
        truth[start + 2] = found is not None and found.kind == item.kind
        truth[start + 5] = found == item
    truth[WORDS_PER_ITEM * len(asked.items) + 1] = asked.background == shown.background
    return truth


def seen_there(asked: Scene, shown: Scene, length: int) -> np.ndarray:
    """What an image of `shown` has where `asked` wants something: long [2, length], UNKNOWN_CLASS for most words.

    Row 0, at the word of each kind: the kind in its cell; row 1, at the word of each colour: the colour there. Classes
    are those of `cell_labels`.
    """
    classes = np.full((2, length), UNKNOWN_CLASS, np.int64)
    for start, _, found in _looked_for(asked, shown):
        classes[0, start + 2] = 1 + KINDS.index(found.kind) if found else 0
        classes[1, start + 1] = 1 + COLOURS.index(found.colour) if found else 0
    return classes


def _looked_for(asked: Scene, shown: Scene) -> Iterator[tuple[int, Item, Item | None]]:
    """Of each item asked for: where its words begin behind [CLS], the item, and what `shown` has in its cell."""
    there = {item.cell: item for item in shown.items}
    for number, item in enumerate(asked.items):
        yield 1 + WORDS_PER_ITEM * number, item, there.get(item.cell)
