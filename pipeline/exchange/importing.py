"""Start anywhere: prompts, images, answers or finished pairs of other people become stages of a run.

An import runs through the same executor as everything else, so it can be killed and continued, keeps a reject for
every row it cannot use, and leaves manifests. A stage's configuration names what it was imported from (file name,
format, SHA-256: no paths, so the same input gives the same fingerprint on another machine), and the run starts after
the last imported stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from ...base.errors import PrefmillError
from ...base.paths import user_path
from ...base.progress import Progress
from ...base.settings import Settings
from ...base.tables.formats import open_table
from ...base.tables.table import BadRow, Table
from ..execute.local import run_task
from ..execute.work import ExecutorConfig
from ..prompts import HUB, PromptsConfig, open_prompts
from ..records import Candidate, ImagePreference, Instruction, Pair, Prompt, Response, Selection, content_id
from ..sources import ListSource
from ..stage import Task
from ..stages.prompts import RecordStage, prompt_source
from ..store import Run
from . import answers, candidates, pairs, preference_import
from .answers import AnswerIndex
from .candidates import PICKS, ImageStage, candidate_source, pick_source
from .images import ImageInputs, identity_of, image_inputs, images_beside
from .pairs import PairImportStage, pair_source
from .preference_formats import format_of
from .preference_import import PreferenceImportStage, preference_source, ranked_images
from .row_formats import Format, image_said, shape_of

NARROW_BATCH = 1024


class ImportSpec(Settings):
    """What to import: at least one thing. Pairs and preferences between images bring their own images."""

    prompts: str | None = Field(default=None, description="a file of prompts, as for --prompts of a run")
    images: str | None = Field(default=None, description="a folder of images, or a table that names or holds them")
    answers: str | None = Field(default=None, description="a table of answers, or LLaVA conversations")
    pairs: str | None = Field(default=None, description="a table of preference pairs: PDS-DPO, LLaVA or TRL")
    image_preferences: str | None = Field(
        default=None, description="rankings or pairs of images: ImageRewardDB, HPDv2, Pick-a-Pic"
    )
    root: str | None = Field(default=None, description="the folder of relative image paths; by default the table's")
    format: Format = Field(default="auto", description="of answers and pairs; by default told from their content")

    @model_validator(mode="after")
    def _fits_together(self) -> ImportSpec:
        if not (self.prompts or self.images or self.answers or self.pairs or self.image_preferences):
            raise PrefmillError(
                "nothing to import", "name it with --prompts, --images, --answers, --pairs or --image-preferences"
            )
        if self.pairs and (self.images or self.answers):
            raise PrefmillError(
                "pairs bring their own images and need no answers",
                "import --pairs alone; --root names the folder their image paths are in",
            )
        if self.image_preferences and (self.images or self.answers or self.pairs):
            raise PrefmillError(
                "preferences between images bring their own images",
                "import --image-preferences alone, or with --prompts; --root names the folder of its images",
            )
        return self


def import_into(run: Run, spec: ImportSpec, config: ExecutorConfig, progress: Progress) -> None:
    """Import into a run, or continue an import, or find it done.

    Raises PrefmillError when an input as a whole cannot be read, and when the run already holds such rows from
    elsewhere; nothing has been written then.
    """
    tasks = _tasks(run, spec, config)
    for task in tasks:
        _refuse_other(run, task)
    for task in tasks:
        run_task(run, task, config, progress)


def _tasks(run: Run, spec: ImportSpec, config: ExecutorConfig) -> list[Task]:
    root = user_path(spec.root, "--root") if spec.root else None
    tasks: list[Task] = [_prompt_task(spec.prompts)] if spec.prompts else []
    images = image_inputs(user_path(spec.images, "--images"), root) if spec.images else None
    if images:
        tasks += _image_tasks(run, images, config, with_prompts=not spec.prompts)
    for option, path in (("--answers", spec.answers), ("--pairs", spec.pairs)):
        if path:
            table = open_table(path, option)
            tasks += _table_tasks(run, table, option, images, root, spec.format, config)
    if spec.image_preferences:
        tasks += _preference_tasks(run, spec.image_preferences, root, config, with_prompts=not spec.prompts)
    return tasks


def _preference_tasks(
    run: Run, path: str, root: Path | None, config: ExecutorConfig, with_prompts: bool
) -> Iterator[Task]:
    table = open_table(path, "--image-preferences")
    identity = identity_of(table, format_of(table, "--image-preferences"))
    images = ranked_images(table, root, identity)
    yield from _image_tasks(run, images, config, with_prompts=with_prompts)
    yield Task(
        preference_import.STAGE,
        ImagePreference,
        lambda: preference_source(table, images),
        lambda: PreferenceImportStage(run, images, run.dataset(preference_import.STAGE, ImagePreference).column("id")),
        preference_import.BATCH,
        {"imported": identity},
        "rows",
    )


def _table_tasks(
    run: Run,
    table: Table,
    option: str,
    images: ImageInputs | None,
    root: Path | None,
    format: Format,
    config: ExecutorConfig,
) -> list[Task]:
    found, shape = shape_of(table, format, option)
    if option == "--answers" and shape == "pair":
        raise PrefmillError(f"{table.name} holds preference pairs ({found}), not answers", "give it with --pairs")
    identity = identity_of(table, found)
    if shape == "answer" and (images or not _brings_images(run, table, identity)):
        return _answer_tasks(run, AnswerIndex(run, table, images), identity)
    images = images_beside(table, root, identity)
    tasks = list(_image_tasks(run, images, config, with_prompts=False))
    if shape == "answer":
        return [*tasks, *_answer_tasks(run, AnswerIndex(run, table, images), identity)]
    return [*tasks, _pair_task(run, table, images, identity)]


def _brings_images(run: Run, table: Table, identity: dict[str, str]) -> bool:
    """Return whether a table of answers is where the run's images come from, or have to come from."""
    if run.has("candidates"):
        return _imported(run, "candidates") == identity
    for row in table.scan():
        try:
            if image_said(row.fields):
                return True
        except BadRow:
            continue
    return False


def _prompt_task(path: str) -> Task:
    config = PromptsConfig(path=path)
    source = partial(prompt_source, config)
    if path.startswith(HUB):
        identity = {"name": path, "format": "hub", "sha256": content_id("prompts", *source().identities)}
    else:
        table = open_prompts(config)
        kind = Path(table.name).suffix.removeprefix(".") or table.kind
        identity = {"name": table.name, "format": kind, "sha256": table.sha256}
    return Task("prompts", Prompt, source, RecordStage, NARROW_BATCH, {"imported": identity}, "prompts")


def _image_tasks(run: Run, images: ImageInputs, config: ExecutorConfig, with_prompts: bool) -> Iterator[Task]:
    described = {"imported": images.identity}
    if with_prompts and images.prompts and (not run.has("prompts") or _imported(run, "prompts") == images.identity):
        yield Task("prompts", Prompt, lambda: _listed(images), RecordStage, NARROW_BATCH, described, "prompts")
    yield Task(
        candidates.STAGE,
        Candidate,
        partial(candidate_source, run, images),
        lambda: ImageStage(images, run.dataset("candidates", Candidate).column("id"), config.host_threads),
        candidates.BATCH,
        described,
        "images",
    )
    if any(row.picked for row in images.rows):
        yield Task(PICKS, Selection, partial(pick_source, run, images), RecordStage, NARROW_BATCH, described, "images")


def _listed(images: ImageInputs) -> ListSource[Any]:
    identities = [item.id if isinstance(item, Prompt) else item.subject_id for item in images.prompts]
    return ListSource(images.prompts, identities)


def _answer_tasks(run: Run, index: AnswerIndex, identity: dict[str, str]) -> list[Task]:
    described = {"imported": identity}
    return [
        Task("instructions", Instruction, index.instructions, RecordStage, NARROW_BATCH, described, "instructions"),
        Task(answers.STAGE, Response, index.responses, RecordStage, NARROW_BATCH, described, "answers"),
    ]


def _pair_task(run: Run, table: Table, images: ImageInputs, identity: dict[str, str]) -> Task:
    return Task(
        pairs.STAGE,
        Pair,
        lambda: pair_source(table, images),
        lambda: PairImportStage(run, images, run.dataset("pairs", Pair).column("id")),
        pairs.BATCH,
        {"imported": identity},
        "pairs",
    )


def _imported(run: Run, stage: str) -> dict[str, str] | None:
    return run.manifest(stage).get("config", {}).get("imported")


def _refuse_other(run: Run, task: Task) -> None:
    """Refuse to mix an import with rows from elsewhere, before anything is written."""
    if not run.has(task.name):
        return
    before, now = _imported(run, task.name), task.config["imported"]
    if before == now:
        return
    origin = "that it made itself" if before is None else f"imported from {_named(before)}"
    raise PrefmillError(
        f"{run.folder} already holds {task.name} {origin}; this import brings others, from {_named(now)}",
        "import into a new folder with --to, or give the same files again to continue the earlier import",
    )


def _named(identity: dict[str, str]) -> str:
    return f"{identity['name']} ({identity['format']}, SHA-256 {identity['sha256'][:12]})"
