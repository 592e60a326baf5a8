"""From the trained network to the checkpoint that scorers load, with its manifest.

Scores are standardised over the images trained on, as the published reward's are over its own. Heads of aspects are
standardised in their weights; the main head beside them is the weighted mean of what they were trained as, log-odds of
a preference: an aspect that the network can hardly tell has small ones, and so little say.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from ...base.files import copy_folder, remove, sha256_of
from ...engine.networks.image_reward import ImageRewardModel
from ...engine.quiet import quiet_loading
from ...engine.scorers.image_reward import MAX_TEXT_TOKENS
from ...engine.text import tokenize_prompts
from ...pipeline.store import Run
from ..events import say
from ..finish import last_checkpoint, spent, with_curves
from ..manifest import MANIFEST, stages_of, summarize, write
from .data import compared_prompts, preferences_digest
from .job import RewardJob
from .manifest import PANELS, REWARD, RewardManifest
from .trainer import RewardTrainer


def standardise(model: ImageRewardModel, raw: torch.Tensor, weights: Sequence[float]) -> None:
    """Give the model a main head of mean 0 and deviation 1 on raw rewards [I, H], and its aspects' heads the same.

    `weights` are what the aspects count; with one head they are not looked at.
    """
    values = raw.double()
    if model.config.aspects:
        shares = torch.tensor(weights, dtype=torch.float64)
        shares = shares / shares.abs().sum()
        heads = model.aspect_heads
        centre, spread = values.mean(0), _spread(values)
        with torch.no_grad():
            own = shares.to(heads.weight.device)
            model.head.weight.copy_((own[:, None] * heads.weight.double()).sum(0, keepdim=True))
            model.head.bias.copy_((own * heads.bias.double()).sum()[None])
            heads.bias.copy_((heads.bias.double() - centre.to(own.device)) / spread.to(own.device))
            heads.weight.copy_(heads.weight.double() / spread.to(own.device)[:, None])
        values = (values * shares).sum(1, keepdim=True)
    model.config.reward_mean = float(values.mean())
    model.config.reward_deviation = float(_spread(values))


def finish(trainer: RewardTrainer, tokenizer: PreTrainedTokenizerBase, run: Path) -> None:
    """Write checkpoint, curves and manifest into the job's output. Raises PrefmillError where a part is missing."""
    job = trainer.job
    last = last_checkpoint(job.checkpoints)
    say(job.output, "standardising the reward over the images trained on")
    model = trainer.network.model
    raw = trainer.raw_rewards()
    model.to(torch.float32)  # type: ignore[arg-type]  # the stub of `to` is that of a decorated function
    standardise(model, raw, job.config.weights)
    _write_checkpoint(model, tokenizer, job.output)
    backend = with_curves(last.notes.backend, job.output, PANELS)
    lines = job.metrics.read()
    best = trainer.state.best_global_step if job.held_out else None
    prompts = compared_prompts(job.pairs)
    manifest = RewardManifest(
        reward_sha256=sha256_of(job.output / REWARD),
        start=job.config.model,
        start_key=job.model_key,
        run=str(run),
        stages=stages_of(Run(run)),
        pairs=len(job.pairs),
        pairs_digest=preferences_digest(job.pairs, margins=job.weights is not None),
        held_out=len(job.held_out),
        held_out_digest=preferences_digest(job.held_out, margins=job.weights is not None) if job.held_out else None,
        prompts=len(prompts),
        images=len({image for prompt in prompts for image in prompt.images}),
        truncated_prompts=_truncated(job, tokenizer),
        config=job.config,
        backend=backend,
        best_step=best or last.step,
        validation=_validation(lines, best),
        reward_mean=model.config.reward_mean,
        reward_deviation=model.config.reward_deviation,
        loss=summarize(lines, ("step", "loss", "margin", "accuracy")),
        **spent(last, lines),
    )
    write(job.output / MANIFEST, manifest)
    shutil.rmtree(job.checkpoints, ignore_errors=True)  # optimizer states, several times the reward's size
    if job.config.cache is None:
        shutil.rmtree(job.cache, ignore_errors=True)


def _write_checkpoint(model: ImageRewardModel, tokenizer: PreTrainedTokenizerBase, output: Path) -> None:
    draft = output / f".{REWARD}-draft"
    remove(draft)
    try:
        with quiet_loading():
            model.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
        copy_folder(sorted(draft.iterdir()), output / REWARD)
    finally:
        remove(draft)


def _spread(values: torch.Tensor) -> torch.Tensor:
    """Deviation of each column [I, H]; 1 where all rewards are equal."""
    spread = values.std(0, correction=0)
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def _truncated(job: RewardJob, tokenizer: PreTrainedTokenizerBase) -> int:
    texts = list(dict.fromkeys(one.prompt for one in [*job.pairs, *job.held_out]))
    return sum(tokenize_prompts(tokenizer, texts, MAX_TEXT_TOKENS)[2])


def _validation(lines: Sequence[dict[str, float]], best: int | None) -> dict[str, float]:
    line = next((line for line in lines if line["step"] == best and "eval_loss" in line), {})
    kept = {name.removeprefix("eval_"): value for name, value in line.items() if name.startswith("eval_")}
    return {name: value for name, value in kept.items() if name != "seconds"}
