"""What a worker does that trains an image reward: read, prepare, train, finish."""

from __future__ import annotations

import os
from pathlib import Path

from transformers import set_seed

from ...base.errors import PrefmillError
from ...engine.checkpoint import checkpoint_key
from ...engine.sources import resolve_checkpoint
from ..checkpoints import CHECKPOINTS, newest_complete
from ..data import RunImages
from ..events import say
from ..manifest import PLAN, read_plan, write
from ..place import resolve_place
from ..weights_only import weights_only
from .data import load_preferences, margin_weights, split_preferences
from .finish import finish
from .job import RewardJob
from .manifest import RewardPlan
from .network import RewardNetwork
from .start import load_start
from .trainer import build_trainer


def work(output: Path, started: float) -> None:
    """Train an image reward on the preferences of the run that the plan names."""
    plan = read_plan(output, RewardPlan)
    assert plan is not None
    job = prepare(plan, output, started)
    if os.environ.get("RANK", "0") == "0":
        now = plan.model_copy(update={"model_key": job.model_key})
        now.require_same(plan, output)
        write(output / PLAN, now)
    say(output, "loading the model")
    model, tokenizer = load_start(job.model_folder, job.config.own_heads, job.config.seed)
    set_seed(job.config.seed)
    trainer = build_trainer(job, RewardNetwork(model, job.config.frozen_share), tokenizer)
    with weights_only(job.checkpoints, deepspeed=job.config.zero_stage > 0):
        trainer.train(resume_from_checkpoint=str(job.resume.path) if job.resume else None)
    best = trainer.state.best_model_checkpoint
    if job.held_out and not (best and Path(best).is_dir()):  # of which the library only warns
        raise PrefmillError(f"the best checkpoint, {best}, is gone", f"remove {job.checkpoints} to train anew")
    if trainer.is_world_process_zero():
        finish(trainer, tokenizer, Path(plan.run))


def prepare(plan: RewardPlan, output: Path, started: float) -> RewardJob:
    """Return the job with everything resolved; no weight is loaded yet."""
    config = plan.config
    place = resolve_place(config, output)
    folder = resolve_checkpoint(config.model)
    margins = config.margin_weight == "linear"
    preferences = load_preferences(Path(plan.run), config.aspects, margins=margins)
    trained, held_out = split_preferences(preferences, config.validation_share)
    resume = newest_complete(output / CHECKPOINTS)
    if resume:
        resume.require_same(device=place.device, precision=place.precision)
    return RewardJob(
        config=config,
        model_folder=folder,
        model_key=checkpoint_key(folder),
        pairs=trained,
        held_out=held_out,
        weights=margin_weights(trained, held_out) if margins else None,
        images=RunImages(Path(plan.run)),
        output=output,
        resume=resume,
        device=place.device,
        precision=place.precision,
        started=started,
    )
