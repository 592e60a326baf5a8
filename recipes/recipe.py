"""What a recipe returns: one frozen configuration of a whole loop, from the prompts to the adapter."""

from __future__ import annotations

from typing import Any

from ..base.errors import PrefmillError
from ..pipeline.loop import Loop, every_loop
from ..pipeline.synthesis import SynthesisConfig
from ..train.settings import DPOTrainingConfig


class BaseRecipe(Loop):
    """A loop with a training at its end (None: stop at the pairs). A loop of one's own derives from this.

    It says its name in a field, so that run.yaml says whose settings it holds: `loop: Literal["rated"] = "rated"`.
    """

    train: DPOTrainingConfig | None = None


class Recipe(SynthesisConfig, BaseRecipe):
    """PDS-DPO's loop, and the training on its pairs."""


def recipe_class_of(values: Any) -> type[BaseRecipe]:
    """Return the class whose settings these are: the one that a `loop` in them names, else `Recipe`.

    Raises PrefmillError for a loop that has not been imported.
    """
    name = values.get("loop") if isinstance(values, dict) else None
    if name is None:
        return Recipe
    loops = {loop.model_fields["loop"].default: loop for loop in every_loop(BaseRecipe) if "loop" in loop.model_fields}
    if name not in loops:
        raise PrefmillError(
            f"the settings are those of the loop {name!r}, which is not known here",
            "name the recipe's file again: prefmill run my_recipe.py --to RUN",
        )
    return loops[name]
