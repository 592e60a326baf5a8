"""The recipe visionprefer: what it draws and asks, what a plan says of it, and how it is continued."""

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.store import Run
from prefmill.recipes.annotate import annotation_recipe
from prefmill.recipes.catalogue import load_recipe
from prefmill.recipes.disk import estimate_disk
from prefmill.recipes.plan import PlannedStage
from prefmill.recipes.saved import read_recipe, save
from prefmill.recipes.server_calls import server_calls
from prefmill.recipes.settings import override

PROMPTS = PlannedStage("prompts", "prompts", 1, (), 0, 6, None, None)
LATER = PlannedStage("annotations-gpt-4o", "prompts", 1, (), 0, None, None, None)


@pytest.fixture
def recipe():
    return load_recipe("visionprefer")


def test_four_images_of_a_prompt_are_rated_on_four_aspects(recipe):
    assert sum(generator.candidates for generator in recipe.generators) == 4
    assert [choice.requests for choice in recipe.annotators] == [4]
    names = [name for stage in recipe.STAGES for name in stage.instances(recipe.settings_of(stage))]
    assert names == [
        *("prompts", "candidates-sd3-medium", "candidates-sd35-medium"),
        *("annotations-gpt-4o", "image_preferences"),
    ]


def test_a_plan_says_how_often_it_asks_and_what_is_written(recipe, tmp_path):
    changed = override(recipe, ["annotators.0.presentations=2", "generators.1.width=512", "generators.1.height=512"])
    [said] = server_calls(Run(tmp_path), changed, [PROMPTS, LATER])
    assert "is asked about 48 times" in said
    drawing = [
        PlannedStage(f"candidates-{n}", "prompts", 2, (), 0, 6, None, None) for n in ("sd3-medium", "sd35-medium")
    ]
    disk = estimate_disk(Run(tmp_path), changed, [PROMPTS, *drawing])
    assert disk is not None
    assert disk.needed == round(6 * 2 * (1024**2 + 512**2) * 1.4)


def test_one_batch_for_all_is_for_one_generator(recipe):
    with pytest.raises(PrefmillError, match="auto is for one generator"):
        override(recipe, ["generators.0.batch_size=auto"])


def test_a_run_is_annotated_as_before_then_as_it_says_then_as_published(recipe, tmp_path):
    assert annotation_recipe(tmp_path, None) == recipe
    own = override(recipe, ["prefer.tie_band=0.5"])
    save(tmp_path, own)
    assert annotation_recipe(tmp_path, None) == own == read_recipe(tmp_path / "run.yaml")
    save(tmp_path, recipe, "annotate.yaml")
    assert annotation_recipe(tmp_path, None) == recipe
    save(tmp_path, load_recipe("tiny"))
    (tmp_path / "annotate.yaml").unlink()
    assert annotation_recipe(tmp_path, None) == recipe
    with pytest.raises(PrefmillError, match="annotates no images"):
        annotation_recipe(tmp_path, "tiny")
