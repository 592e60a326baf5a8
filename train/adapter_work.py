"""What a worker does that trains an adapter by preferences: read, prepare, train by a backend, finish."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .backends import backend_named
from .checkpoints import CHECKPOINTS, newest_complete
from .curves import PANELS
from .events import say
from .finish import copy_adapter, last_checkpoint, spent, with_curves
from .job import TrainingJob
from .manifest import MANIFEST, PLAN, AdapterManifest, PreferencePlan, read_plan, stages_of, summarize, write
from .place import resolve_place


def work(output: Path, started: float) -> None:
    """Train an adapter on the pairs of the run that the plan names."""
    from .weights_only import weights_only

    plan = read_plan(output, PreferencePlan)
    assert plan is not None
    job, excluded = prepare(plan, output, started)
    first = os.environ.get("RANK", "0") == "0"
    model_key = _base_model_key(plan, job, output) if first else ""
    say(output, "loading the model")
    with weights_only(job.checkpoints, deepspeed=plan.config.zero_stage > 0):
        backend_named(plan.config.backend)(job)
    if first:
        _finish(plan, job, excluded, model_key)


def prepare(plan: PreferencePlan, output: Path, started: float) -> tuple[TrainingJob, dict[str, list[str]]]:
    """Return what a backend is given, and the ids of pairs that are left out by reason; no weight is read yet."""
    from ..engine.sources import resolve_checkpoint
    from .inputs import read_inputs

    config = plan.config
    place = resolve_place(config, output)
    folder = resolve_checkpoint(config.model)
    read = read_inputs(config, Path(plan.run), folder)
    resume = newest_complete(output / CHECKPOINTS)
    if resume:
        resume.require_same(device=place.device, precision=place.precision)
    given = (
        config,
        folder,
        read.collator,
        read.pairs,
        read.images,
        output,
        resume,
        place.device,
        place.precision,
        started,
    )
    return TrainingJob(*given, read.held_out), read.excluded


def _base_model_key(plan: PreferencePlan, job: TrainingJob, output: Path) -> str:
    from ..engine.checkpoint import checkpoint_key

    say(output, "reading the model's weights")
    now = plan.model_copy(update={"model_key": checkpoint_key(job.model_folder)})
    now.require_same(plan, output)
    write(output / PLAN, now)
    return str(now.model_key)


def _finish(plan: PreferencePlan, job: TrainingJob, excluded: dict[str, list[str]], model_key: str) -> None:
    from ..pipeline.store import Run
    from .data import pairs_digest

    last = last_checkpoint(job.checkpoints)
    digests = copy_adapter(last, job.output)
    lines = job.metrics.read()
    manifest = AdapterManifest(
        **digests,
        base_model=plan.config.model,
        base_model_key=model_key,
        run=plan.run,
        stages=stages_of(Run(Path(plan.run))),
        pairs=len(job.pairs),
        pairs_digest=pairs_digest(job.pairs),
        held_out=len(job.held_out),
        held_out_digest=pairs_digest(job.held_out) if job.held_out else None,
        excluded=excluded,
        config=plan.config,
        backend=with_curves(last.notes.backend, job.output, PANELS),
        loss=summarize(lines),
        **spent(last, lines),
    )
    write(job.output / MANIFEST, manifest)
    shutil.rmtree(job.checkpoints, ignore_errors=True)  # optimizer states, several times the adapter's size
    if plan.config.cache is None:
        shutil.rmtree(job.cache, ignore_errors=True)
