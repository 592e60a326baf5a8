"""Recipes that differ from another say in what."""

import pytest
from prefmill.recipes.catalogue import RECIPES, load_recipe
from prefmill.recipes.described import described_yaml
from prefmill.recipes.settings import override


def training(recipe):
    assert recipe.train
    return recipe.train


def differences(name):
    ours, theirs = (training(load_recipe(one)).model_dump() for one in (name, "pds-dpo"))
    return {key: value for key, value in ours.items() if value != theirs[key]}


def test_the_authors_scripts():
    changes = differences("pds-dpo-repo")
    assert changes.pop("system_prompt").startswith("A chat between a curious user")
    assert changes == {"max_tokens": 5012, "accumulation": 1, "processes": 2, "save_every": 2000}
    train = training(load_recipe("pds-dpo-repo"))
    assert train.batch_size * train.accumulation * train.processes == 2
    assert (train.lora_rank, train.lora_alpha, train.beta, train.epochs, train.learning_rate) == (
        128,
        256,
        0.1,
        2,
        1e-5,
    )


def test_low_memory():
    assert differences("low-memory") == {"base_bits": 4, "max_tokens": 1024, "gradient_checkpointing": True}


@pytest.mark.parametrize("name", ["pds-dpo-repo", "low-memory"])
def test_they_are_shown_and_overridden(name):
    assert name in RECIPES
    assert "accumulation:" in described_yaml(load_recipe(name))
    assert training(override(load_recipe(name), ["train.accumulation=3"])).accumulation == 3
