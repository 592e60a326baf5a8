"""Preferences of a run: which are taken, which errors are told, and who is held out."""

import dataclasses

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.train.data import RunImages
from prefmill.train.reward.data import (
    compared_prompts,
    load_preferences,
    margin_weights,
    preferences_digest,
    split_preferences,
)

from .conftest import ASPECTS, write_preferences


def test_images_of_all_generators_are_found(compared_run):
    assert {path.name for path in compared_run.glob("candidates*")} == {"candidates-0", "candidates-1"}
    images = RunImages(compared_run)
    assert len(images.sizes()) == 36
    for preference in load_preferences(compared_run, ["overall"])[:6]:
        assert images.load(preference.chosen_id).size == (40, 32)
        assert images.prompts()[preference.chosen_id] == preference.prompt_id


def test_prompts_have_every_image_once_and_all_pairs(compared_run):
    prompts = compared_prompts(load_preferences(compared_run, ASPECTS))
    assert [len(prompt.images) for prompt in prompts] == [3] * 12
    assert [len(prompt.preferences) for prompt in prompts] == [6] * 12
    assert [len(one.preferences) for one in compared_prompts(load_preferences(compared_run, ["overall"]))] == [3] * 12


def test_whole_prompts_are_held_out_whatever_else_is_there(compared_run):
    given = load_preferences(compared_run, ASPECTS)
    trained, held_out = split_preferences(given, 0.25)
    prompts = [{one.prompt_id for one in side} for side in (trained, held_out)]
    assert len(trained) + len(held_out) == len(given)
    assert not prompts[0] & prompts[1]
    half = [one for one in given if one.prompt_id in set(list(prompts[0])[:3]) | prompts[1]]
    assert {one.prompt_id for one in split_preferences(half, 0.25)[1]} == prompts[1]
    assert split_preferences(given, 0) == (given, [])


def test_margins_are_in_the_digest_and_weigh_in_proportion(compared_run):
    given = load_preferences(compared_run, ["overall"], margins=True)
    weights = margin_weights(given, [])
    assert sum(weights.values()) / len(weights) == pytest.approx(1.0)
    one, two = (next(row for row in given if row.margin == margin) for margin in (1.0, 2.0))
    assert weights[two.id] == pytest.approx(2 * weights[one.id])
    other = [dataclasses.replace(given[0], margin=7.0), *given[1:]]
    assert preferences_digest(other) == preferences_digest(given)
    assert preferences_digest(other, margins=True) != preferences_digest(given, margins=True)


def test_a_run_without_preferences(tmp_path):
    run = write_preferences(tmp_path / "run", 2, ())
    with pytest.raises(PrefmillError, match="no preferences between images") as caught:
        load_preferences(run, ["overall"])
    assert "prefmill annotate" in caught.value.fix


def test_an_aspect_that_is_not_there(compared_run):
    with pytest.raises(PrefmillError, match="'fidelity'") as caught:
        load_preferences(compared_run, ["fidelity"])
    assert caught.value.fix == "choose aspects among overall, aesthetic"


def test_a_missing_image_is_named(tmp_path):
    run = write_preferences(tmp_path / "run", 3, lost=4)
    with pytest.raises(PrefmillError, match="which is not in") as caught:
        load_preferences(run, ["overall"])
    assert f"--to {run}" in caught.value.fix


@pytest.mark.parametrize("share", [1e-9, 0.999])
def test_a_split_with_one_side_is_refused(compared_run, share):
    with pytest.raises(PrefmillError, match="would hold out") as caught:
        split_preferences(load_preferences(compared_run, ["overall"]), share)
    assert "validation_share" in caught.value.fix
