"""A recipe's trainings: their order, their folders, and the reward that a generator learns from."""

import pytest
from prefmill.base.progress import Progress
from prefmill.recipes import trainings
from prefmill.recipes.catalogue import load_recipe
from prefmill.recipes.preflight import plan_run
from prefmill.recipes.settings import override
from prefmill.recipes.trainings import trainings_of
from prefmill.train.generator.settings import GeneratorTrainingConfig


def test_a_reward_is_trained_before_the_generator_that_learns_from_it(tmp_path):
    reward, generator = trainings_of(load_recipe("visionprefer"), tmp_path)
    assert (reward.output, generator.output) == (tmp_path / "reward-training", tmp_path / "generator-training")
    assert isinstance(generator.config, GeneratorTrainingConfig)
    assert generator.config.reward.sources == {"imagereward": str(tmp_path / "reward-training" / "reward")}
    assert [setting for setting, _ in generator.checkpoints] == ["train_generator.model"], (
        "that reward is not there yet"
    )


def test_without_one_the_generator_learns_from_the_reward_that_its_settings_name(tmp_path):
    recipe = override(
        load_recipe("visionprefer"), ["train_reward=null", "train_generator.reward.model=micro:image-reward"]
    )
    [generator] = trainings_of(recipe, tmp_path)
    assert generator.checkpoints[1] == ("train_generator.reward", "micro:image-reward")


@pytest.mark.parametrize("name", ["tiny", "visionprefer"])
def test_a_plan_names_the_trainings_and_what_they_load(name, tmp_path):
    plan = plan_run(tmp_path / "run", override(load_recipe(name), ["engine.device=cpu"]))
    wanted = {"tiny": ("training",), "visionprefer": ("reward-training", "generator-training")}[name]
    assert plan.trainings == wanted
    settings = {model.setting for model in plan.models}
    assert {"tiny": {"train.model"}, "visionprefer": {"train_reward.model", "train_generator.model"}}[name] <= settings
    assert plan_run(tmp_path / "run", load_recipe(name), train=False).trainings == ()


def test_trainings_are_started_in_their_order(tmp_path, monkeypatch):
    """What a run's end does with them."""
    begun = []
    for name, where in (
        ("train_reward_with_progress", trainings.reward_training),
        ("train_generator_with_progress", trainings.generator_training),
    ):
        monkeypatch.setattr(where, name, lambda run, output, config, progress: begun.append((run, output.name)))
    for training in trainings_of(load_recipe("visionprefer"), tmp_path):
        training.start(tmp_path, Progress())
    assert begun == [(tmp_path, "reward-training"), (tmp_path, "generator-training")]
