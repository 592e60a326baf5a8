"""Scenes and splits: what is held out is held out by combination, and drawing is a function of the seed."""

from collections import Counter

import numpy as np
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.micro.world.perturb import perturb
from prefmill.micro.world.scenes import (
    CELLS,
    COLOURS,
    KINDS,
    TOPICS,
    UNSAFE_KINDS,
    Item,
    Scene,
    Split,
    draw_scene,
    sample_scenes,
)

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@pytest.fixture(scope="module")
def scenes():
    random = np.random.default_rng(0)
    return [draw_scene(random) for _ in range(20_000)]


def test_scenes_are_well_formed(scenes):
    for scene in scenes:
        cells = [item.cell for item in scene.items]
        assert cells == sorted(set(cells))
        assert len(scene.kinds) == len(scene.items)
        assert 1 <= len(scene.items) <= 3


def test_shares_are_those_of_the_design(scenes):
    counts = Counter(len(scene.items) for scene in scenes)
    assert [counts[number] / len(scenes) for number in (1, 2, 3)] == pytest.approx([0.2, 0.4, 0.4], abs=0.01)
    from_topic = [item.kind in TOPICS[scene.topic] for scene in scenes for item in scene.items]
    assert np.mean(from_topic) == pytest.approx(0.7, abs=0.01)


def test_a_sixth_of_the_scenes_of_every_split_is_unsafe(scenes):
    assert set(KINDS) > UNSAFE_KINDS
    for split in SPLITS:
        unsafe = [bool(scene.kinds & UNSAFE_KINDS) for scene in scenes if scene.split == split]
        # 2.2 things in a scene, each the knife in one of twelve
        assert np.mean(unsafe) == pytest.approx(2.2 / 12, abs=0.05)


def test_splits_share_no_combination():
    combinations = {
        split: {scene.combination for scene in sample_scenes(split, 1500, 1, distinct=False)} for split in SPLITS
    }
    assert not combinations["train"] & combinations["test"]
    assert not combinations["train"] & combinations["dev"]
    assert not combinations["dev"] & combinations["test"]


def test_a_rearranged_scene_stays_in_its_split(scenes):
    for scene in scenes[:500]:
        cells = [item.cell for item in scene.items][::-1]
        moved = [Item(cell, item.kind, item.colour) for cell, item in zip(cells, scene.items, strict=True)]
        assert Scene(tuple(sorted(moved)), "black").split == scene.split


def test_each_split_has_scenes_of_every_size_and_training_has_every_object(scenes):
    for split in SPLITS:
        assert {len(scene.items) for scene in scenes if scene.split == split} == {1, 2, 3}
    trained = {(item.kind, item.colour) for scene in scenes if scene.split == "train" for item in scene.items}
    assert len(trained) == len(KINDS) * len(COLOURS)


def test_single_objects_of_the_test_split_are_never_alone_in_training():
    alone = {
        split: {scene.combination for scene in sample_scenes(split, 2000, 2, distinct=False) if len(scene.items) == 1}
        for split in SPLITS
    }
    assert len(alone["test"]) >= 5
    assert len(alone["dev"]) >= 4
    assert not alone["test"] & (alone["train"] | alone["dev"])


def test_sampling_is_a_function_of_the_seed_and_distinct():
    first = sample_scenes("test", 300, 7)
    assert first == sample_scenes("test", 300, 7)
    assert first != sample_scenes("test", 300, 8)
    assert len(set(first)) == 300
    assert first[0] == sample_scenes("test", 1, 7)[0]


def test_more_scenes_than_there_are_is_an_error(monkeypatch):
    monkeypatch.setattr(
        "prefmill.micro.world.scenes.draw_scene", lambda random: Scene((Item(0, "ball", "red"),), "gray")
    )
    monkeypatch.setattr("prefmill.micro.world.scenes._TRIES", 1000)
    split = Scene((Item(0, "ball", "red"),), "gray").split
    other = next(each for each in SPLITS if each != split)
    with pytest.raises(PrefmillError, match=f"split '{other}' gave only 0 of 1"):
        sample_scenes(other, 1, 0)  # type: ignore[arg-type]


def test_the_topic_does_not_count_in_comparisons():
    items = (Item(0, "ball", "red"),)
    assert Scene(items, "gray", "play") == Scene(items, "gray", "home")


def test_perturbations_change_one_thing_and_stay_scenes(scenes):
    random = np.random.default_rng(3)
    changes = Counter()
    for scene in scenes[:2000]:
        changed = perturb(scene, random)
        assert changed != scene
        assert 1 <= len(changed.items) <= len(CELLS)
        assert len({item.cell for item in changed.items}) == len(changed.items)
        assert len(changed.kinds) == len(changed.items)
        differing = len(set(scene.items) ^ set(changed.items))
        assert differing + (changed.background != scene.background) in (1, 2, 4)
        changes[len(changed.items) - len(scene.items), changed.background != scene.background, differing] += 1
    assert {change[0] for change in changes} == {-1, 0, 1}
    assert len(changes) == 5  # more, fewer, another ground, one object other, two colours exchanged
