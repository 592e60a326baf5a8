"""The micro recipe on scenes of one's choice: what the demo runs once, and the studies once for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..base.files import write_text
from ..micro.measure.held_out import prompt_lines
from ..micro.world.scenes import Scene
from ..recipes.micro import micro
from ..recipes.recipe import Recipe
from ..recipes.settings import override


def micro_recipe(folder: Path, scenes: Sequence[Scene], seed: int) -> Recipe:
    """Write the prompt file that asks for the scenes into `folder`, and return the micro recipe that reads it."""
    return override(micro(), [f"prompts.path={write_prompts(folder, scenes, seed)}"])


def write_prompts(folder: Path, scenes: Sequence[Scene], seed: int) -> Path:
    """Write the prompt file that asks for the scenes into `folder`, and return its path."""
    prompts = folder / "prompts.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(prompts, prompt_lines(scenes, seed))
    return prompts.resolve()
