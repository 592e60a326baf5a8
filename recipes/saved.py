"""run.yaml: the configuration that a run was begun with, and from which it continues.

A recipe whose class is somebody's own (see `python_file`) is saved with the file that defines it, for people to read:
continuing such a run takes the file's name on the command line again, for a run may have been handed over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from ..base.files import write_text
from ..pipeline.generate_settings import GenerateConfig
from ..pipeline.prompts import PromptsConfig
from ..train.settings import DPOTrainingConfig
from .python_file import source_of
from .recipe import BaseRecipe, recipe_class_of
from .settings import parsed, read_text, to_yaml, validated

NAME = "run.yaml"
_FILE = "recipe_file"


def save(folder: Path, recipe: BaseRecipe) -> None:
    """Write the recipe into a run's folder."""
    source = source_of(recipe)
    head = "" if source is None else to_yaml({_FILE: source})
    write_text(folder / NAME, head + to_yaml(recipe))


def read_recipe(path: Path, folder: Path | None = None) -> BaseRecipe:
    """Return the recipe in a YAML file. Raises PrefmillError when it cannot be read, is not valid, or needs code."""
    values = _values(path)
    if _FILE in values:
        where = f" --to {folder}" if folder else ""
        raise PrefmillError(
            f"{path} is of a recipe class that {values[_FILE]} defines: code, which is run only when you name it",
            f"prefmill run {values[_FILE]}{where}",
        )
    return validated(recipe_class_of(values), values)


def has_recipe(folder: Path) -> bool:
    """Return whether a folder holds a run that can be continued by its name alone."""
    return (folder / NAME).exists()


def continued(folder: Path) -> BaseRecipe:
    """Return the recipe that a run was begun with."""
    return read_recipe(folder / NAME, folder)


def prompts_of(folder: Path) -> PromptsConfig:
    """Return where a run's prompts come from, whatever its recipe's class."""
    return validated(PromptsConfig, _values(folder / NAME).get("prompts", {}))


def generators_of(folder: Path) -> list[GenerateConfig]:
    """Return how a run draws, whatever its recipe's class; empty where it does not."""
    found = _values(folder / NAME).get("generate") or []
    known = GenerateConfig.model_fields.keys()
    return [
        validated(GenerateConfig, {name: value for name, value in one.items() if name in known})
        for one in (found if isinstance(found, list) else [found])
    ]


def training_of(folder: Path) -> DPOTrainingConfig | None:
    """Return how a run trains, whatever its recipe's class; None where it does not."""
    found = _values(folder / NAME).get("train")
    return None if found is None else validated(DPOTrainingConfig, found)


def _values(path: Path) -> dict[str, Any]:
    values = parsed(read_text(path), str(path), "correct it, or name a recipe")
    if values is None:
        raise PrefmillError(f"{path} is empty", "name a recipe instead: tiny, or a file")
    if not isinstance(values, dict):
        raise PrefmillError(f"{path} holds no settings, but a {type(values).__name__}", "see prefmill recipe show tiny")
    return values
