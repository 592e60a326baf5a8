"""Annotate the images of a run that is there, drawn or imported: what `prefmill annotate` does.

The run's other rows are taken as they are, whatever made them, and its run.yaml stays: how it is annotated is kept
beside it, in annotate.yaml.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ..base.errors import PrefmillError
from ..base.progress import Progress
from ..pipeline.annotating.humans import human_agreement, read_human_pairs
from ..pipeline.annotating.presentations import Numbers
from ..pipeline.declaration import Inputs
from ..pipeline.report import write_report
from ..pipeline.stages.annotate import STAGE as ANNOTATE
from ..pipeline.stages.generate import GENERATORS
from ..pipeline.stages.prefer import STAGE as PREFER
from ..pipeline.stages.prefer import rated_prompts
from ..pipeline.store import Run
from ..pipeline.summary import summarize
from ..pipeline.synthesis import remake_from, synthesize
from .catalogue import load_recipe
from .engine_builds import build_missing
from .preflight import plan_run
from .recipe import BaseRecipe
from .run import Finished
from .saved import NAME as RUN_NAME
from .saved import read_recipe, save

NAME = "annotate.yaml"
ONLY = (ANNOTATE.name, PREFER.name)


def annotation_recipe(folder: Path, named: str | None) -> BaseRecipe:
    """Return how a run's images are annotated: by the recipe named, as before, as the run says, or as `visionprefer`.

    Raises PrefmillError for a recipe that annotates nothing.
    """
    if named is not None:
        recipe = load_recipe(named)
        if not _annotates(recipe):
            raise PrefmillError(
                f"the recipe {named} annotates no images", "name visionprefer, or one with the same stages"
            )
        return recipe
    if (folder / NAME).exists():
        return read_recipe(folder / NAME, folder)
    if (folder / RUN_NAME).exists() and _annotates(recipe := read_recipe(folder / RUN_NAME, folder)):
        return recipe
    return load_recipe("visionprefer")


def annotate_run(
    folder: Path, recipe: BaseRecipe, progress: Progress | None = None, *, remake: str | None = None
) -> Finished:
    """Annotate the images of a run and make preferences, or continue, or find it done; the report is written again.

    `remake` makes a stage, and all after it, again. Raises PrefmillError for everything a user can repair.
    """
    progress = progress or Progress()
    Run.open(folder)
    plan = plan_run(folder, recipe, remake=remake, train=False, only=ONLY)
    plan.require_sound()
    for note in plan.notes:
        progress.notice(note)
    with Run.writing(folder) as run:
        save(folder, recipe, NAME)
        build_missing(recipe, plan.computed, progress)
        if remake:
            remake_from(run, recipe, remake, progress, ONLY)
        synthesize(run, recipe, progress, only=ONLY)
        report = write_report(run)
        return Finished(folder, summarize(run), report)


def agreement_with(humans: str, folder: Path, recipe: BaseRecipe) -> tuple[dict[str, Numbers], Counter[str]]:
    """Return how an annotated run agrees with people's pairs in a table, and what could not be used of it, by reason.

    Raises PrefmillError where no row can be used.
    """
    run = Run.open(folder)
    read = read_human_pairs(humans, run, GENERATORS)
    folders = {ANNOTATE.name: [name for name in run.stages() if ANNOTATE.owns(name)]}
    config = recipe.settings_of(PREFER)
    return human_agreement(rated_prompts(Inputs(run, config, folders)), read, config), read.unused


def _annotates(recipe: BaseRecipe) -> bool:
    return ANNOTATE in recipe.STAGES and PREFER in recipe.STAGES
