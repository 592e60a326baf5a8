"""The recipes by name: a run is a Python function that returns one configuration, to read, to print, to override.

prefmill recipe list                      what there is
prefmill recipe show pds-dpo              the whole configuration as YAML
prefmill run pds-dpo --set generate.guidance=[3,5]
prefmill run mine.yaml                    a saved and edited one
prefmill run mine.py                      one's own: a file with a function recipe() that returns a Recipe
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..base.errors import PrefmillError
from ..base.paths import user_path
from ..engine.settings import MICRO_CHECKPOINTS
from .imported import imported
from .low_memory import low_memory
from .micro import micro
from .pds_dpo import pds_dpo
from .pds_dpo_repo import pds_dpo_repo
from .python_file import load_python_recipe
from .recipe import BaseRecipe
from .saved import read_recipe
from .tiny import tiny
from .visionprefer import visionprefer
from .visionprefer_micro import visionprefer_micro

MICRO_NAMES = (
    *("text-to-image", "image-reward", "clip", "policy", "text-reward"),
    *(f"responder-{letter}" for letter in "abcd"),
)

VISIONPREFER_MICRO_NAMES = ("text-to-image", "annotator-a")

RECIPES: dict[str, Callable[[], BaseRecipe]] = {
    "tiny": tiny,
    "pds-dpo": pds_dpo,
    "pds-dpo-repo": pds_dpo_repo,
    "low-memory": low_memory,
    "imported": imported,
    "visionprefer": visionprefer,
}


def _are_here(names: Iterable[str]) -> bool:
    """Whether the package has these checkpoints: trained, not written, so a checkout may lack some."""
    return all((MICRO_CHECKPOINTS / name).is_dir() for name in names)


if _are_here(MICRO_NAMES):
    RECIPES = {"micro": micro, **RECIPES}
if _are_here(VISIONPREFER_MICRO_NAMES):
    RECIPES = {**RECIPES, "visionprefer-micro": visionprefer_micro}


def load_recipe(name: str) -> BaseRecipe:
    """Return a recipe by name, from a YAML file or from a Python file. Raises PrefmillError when there is none."""
    if name in RECIPES:
        return RECIPES[name]()
    path = user_path(name, "the recipe")
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        return read_recipe(path)
    if path.suffix == ".py" and path.is_file():
        return load_python_recipe(path)
    raise PrefmillError(
        f"there is no recipe {name!r}", f"choose one of {', '.join(RECIPES)}, or give a .yaml or .py file"
    )
