"""Joining runs into a new folder that appears whole or not at all, with the settings they share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..base.errors import PrefmillError
from ..base.files import TEMPORARY, make_folder, remove
from ..pipeline.joining import chosen_runs, join_runs
from ..pipeline.report import write_report
from ..pipeline.store import Run
from .saved import NAME, continued, has_recipe, save


def join_into(folders: Sequence[Path], to: Path) -> dict[str, int]:
    """Join the runs in `folders` into a new run, and return how many rows it has by stage.

    Raises PrefmillError for a target that is there already, and as `join_runs` does; nothing is written then.
    """
    runs = list(chosen_runs(folders))
    if to.exists():
        raise PrefmillError(f"{to} is there already", "choose a new folder with --to")
    make_folder(to.parent)
    temporary = to.with_name(f"{TEMPORARY}{to.name}")
    remove(temporary)
    try:
        with Run.writing(temporary) as target:
            counts = join_runs(runs, target)
            if has_recipe(runs[0].folder):
                _save_recipe(runs[0].folder, temporary)
            write_report(target)
        temporary.replace(to)
    finally:
        remove(temporary)
    return counts


def _save_recipe(folder: Path, target: Path) -> None:
    """Keep the first run's settings; its prompts are rows now, and no file."""
    try:
        recipe = continued(folder)
    except PrefmillError:  # a recipe class of one's own, which is named again on the command line
        (target / NAME).write_bytes((folder / NAME).read_bytes())
        return
    prompts = getattr(recipe, "prompts", None)
    if prompts is not None:
        recipe = recipe.model_copy(update={"prompts": prompts.model_copy(update={"path": None, "limit": None})})
    save(target, recipe)
