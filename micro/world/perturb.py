"""Scenes that differ from a scene in one thing: what near-miss pictures and near-miss prompts are made of."""

from collections.abc import Callable

import numpy as np

from .scenes import BACKGROUNDS, CELLS, COLOURS, KINDS, Item, Scene


def perturb(scene: Scene, random: np.random.Generator) -> Scene:
    """Change one thing: a colour, a kind, a place, two colours exchanged, an object more or less, or the ground."""
    while True:
        change = _CHANGES[int(random.integers(len(_CHANGES)))]
        changed = change(scene, random)
        if changed is not None and changed != scene:
            return changed


def _recolour(scene: Scene, random: np.random.Generator) -> Scene:
    number = int(random.integers(len(scene.items)))
    item = scene.items[number]
    return _replace(scene, number, Item(item.cell, item.kind, str(random.choice(COLOURS))))


def rename(scene: Scene, random: np.random.Generator) -> Scene:
    """Change the kind of one object to one that is not there."""
    number = int(random.integers(len(scene.items)))
    item = scene.items[number]
    others = [kind for kind in KINDS if kind not in scene.kinds]
    return _replace(scene, number, Item(item.cell, str(random.choice(others)), item.colour))


def _move(scene: Scene, random: np.random.Generator) -> Scene | None:
    free = _free_cells(scene)
    if not free:
        return None
    number = int(random.integers(len(scene.items)))
    item = scene.items[number]
    return _replace(scene, number, Item(int(random.choice(free)), item.kind, item.colour))


def _exchange_colours(scene: Scene, random: np.random.Generator) -> Scene | None:
    if len(scene.items) < 2:
        return None
    first, second = (scene.items[int(number)] for number in random.permutation(len(scene.items))[:2])
    others = [item for item in scene.items if item not in (first, second)]
    changed = [Item(first.cell, first.kind, second.colour), Item(second.cell, second.kind, first.colour)]
    return _scene(scene, [*others, *changed])


def _add(scene: Scene, random: np.random.Generator) -> Scene | None:
    free = _free_cells(scene)
    if not free:
        return None
    others = [kind for kind in KINDS if kind not in scene.kinds]
    added = Item(int(random.choice(free)), str(random.choice(others)), str(random.choice(COLOURS)))
    return _scene(scene, [*scene.items, added])


def _drop(scene: Scene, random: np.random.Generator) -> Scene | None:
    if len(scene.items) < 2:
        return None
    gone = scene.items[int(random.integers(len(scene.items)))]
    return _scene(scene, [item for item in scene.items if item != gone])


def _other_ground(scene: Scene, random: np.random.Generator) -> Scene:
    return Scene(scene.items, str(random.choice(BACKGROUNDS)), scene.topic)


_CHANGES: tuple[Callable[[Scene, np.random.Generator], Scene | None], ...] = (
    _recolour,
    rename,
    _move,
    _exchange_colours,
    _add,
    _drop,
    _other_ground,
)


def _free_cells(scene: Scene) -> list[int]:
    taken = {item.cell for item in scene.items}
    return [cell for cell in range(len(CELLS)) if cell not in taken]


def _replace(scene: Scene, number: int, item: Item) -> Scene:
    return _scene(scene, [*scene.items[:number], item, *scene.items[number + 1 :]])


def _scene(scene: Scene, items: list[Item]) -> Scene:
    return Scene(tuple(sorted(items)), scene.background, scene.topic)
