"""Settings of a tuning by name, or by what the run drew with."""

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.recipes.generator_tuning import load_tuning
from prefmill.recipes.recipe import Recipe
from prefmill.recipes.saved import save
from prefmill.recipes.settings import override


def run_of(folder, **generate):
    save(folder, override(Recipe(), [f"generate.{name}={value}" for name, value in generate.items()]))
    return folder


def test_a_run_s_generator_is_what_is_tuned(tmp_path):
    found = load_tuning(None, run_of(tmp_path, model="some/sd3", t5_tokens=77, width=768, height=512))
    assert (found.model, found.t5_tokens, found.width, found.height) == ("some/sd3", 77, 768, 512)
    assert found.lora_rank == 32


def test_a_micro_run_takes_the_micro_settings(tmp_path):
    found = load_tuning(None, run_of(tmp_path, model="micro:text-to-image"))
    assert (found.model, found.reward.model) == ("micro:text-to-image", "micro:image-reward")


def test_a_folder_without_a_recipe_takes_the_large_ones_and_a_name_wins(tmp_path):
    assert load_tuning(None, tmp_path).model.startswith("stabilityai/")
    assert load_tuning("micro", run_of(tmp_path, model="some/sd3")).model == "micro:text-to-image"
    with pytest.raises(PrefmillError, match="there is no tuning 'large'"):
        load_tuning("large", tmp_path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("flow_dpo.batch_size=3", "must be a multiple of the 2 processes"),
        ("flow_dpo={online: true, noise: own}", "noise=own is for stored images"),
        ("refl={earliest: 0.9, latest: 0.5}", "must be below latest"),
        ("eval_every=3", "must be a multiple of log_every"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, setting, message):
    with pytest.raises(PrefmillError, match=message):
        override(load_tuning("micro", tmp_path), ["processes=2", "log_every=2", "save_every=2", setting])
