"""What a worker does that tunes a generator: read, prepare, train, finish."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ...engine.checkpoint import checkpoint_key
from ...engine.sources import resolve_checkpoint
from ...pipeline.store import Run
from ..checkpoints import CHECKPOINTS, newest_complete
from ..events import say
from ..finish import copy_adapter, last_checkpoint, spent, with_curves
from ..manifest import MANIFEST, PLAN, read_plan, stages_of, write
from ..place import resolve_place
from ..weights_only import weights_only
from .job import GeneratorJob
from .manifest import PANELS, GeneratorManifest, GeneratorPlan
from .preferences import load_image_pairs, load_prompts
from .samples import SAMPLES
from .trainer import train


def work(output: Path, started: float) -> None:
    """Tune a generator on the run that the plan names."""
    plan = read_plan(output, GeneratorPlan)
    assert plan is not None
    job = prepare(plan, output, started)
    if os.environ.get("RANK", "0") == "0":
        say(output, "reading the model's weights")
        now = plan.model_copy(update={"model_key": checkpoint_key(job.model_folder)})
        now.require_same(plan, output)
        write(output / PLAN, now)
        plan = now
    say(output, "loading the model and the reward")
    with weights_only(job.checkpoints, deepspeed=job.config.zero_stage > 0):
        train(job)
    if os.environ.get("RANK", "0") == "0":
        finish(job, plan)


def prepare(plan: GeneratorPlan, output: Path, started: float) -> GeneratorJob:
    """Return the job with everything resolved; no weight is loaded yet."""
    config, run = plan.config, Path(plan.run)
    place = resolve_place(config, output)
    resume = newest_complete(output / CHECKPOINTS)
    if resume:
        resume.require_same(device=place.device, precision=place.precision)
    pairs = load_image_pairs(run, config.flow_dpo.aspect) if config.learns_from_preferences else []
    return GeneratorJob(
        config=config,
        model_folder=resolve_checkpoint(config.model),
        run=run,
        prompts=load_prompts(run),
        pairs=pairs,
        output=output,
        resume=resume,
        device=place.device,
        precision=place.precision,
        started=started,
    )


def finish(job: GeneratorJob, plan: GeneratorPlan) -> None:
    """Write adapter, curves and manifest. Raises PrefmillError where a part is missing."""
    last = last_checkpoint(job.checkpoints)
    digests = copy_adapter(last, job.output)
    lines = job.metrics.read()
    manifest = GeneratorManifest(
        **digests,
        base_model=job.config.model,
        base_model_key=str(plan.model_key),
        reward_key=_reward_key(job),
        run=plan.run,
        stages=stages_of(Run(job.run)),
        prompts=len(job.prompts),
        pairs=len(job.pairs),
        examples_digest=plan.examples_digest,
        config=job.config,
        backend=with_curves(last.notes.backend, job.output, PANELS),
        summary=_summary(job, lines),
        **spent(last, lines),
    )
    write(job.output / MANIFEST, manifest)
    shutil.rmtree(job.checkpoints, ignore_errors=True)  # optimizer states, several times the adapter's size


def _reward_key(job: GeneratorJob) -> str:
    sources = job.config.reward.sources
    return "+".join(checkpoint_key(resolve_checkpoint(source), name) for name, source in sorted(sources.items()))


def _summary(job: GeneratorJob, lines: list[dict[str, float]]) -> dict[str, Any]:
    samples = json.loads((job.output / SAMPLES / "samples.json").read_text())["steps"]
    losses = [line["loss"] for line in lines]
    return {
        "loss": {"first": losses[0], "last": losses[-1], "lowest": min(losses)} if losses else {},
        "samples": {"first": samples[0], "last": samples[-1]},
    }
