"""`prefmill train --plan`: what the training would take, as a table or as one JSON object."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from ..base.text import printable
from ..train.accelerators import accelerator_named
from ..train.settings import DPOTrainingConfig

if TYPE_CHECKING:
    from ..train.projection import Projection


def print_training_plan(folder: Path, config: DPOTrainingConfig, gpu: str | None, as_json: bool) -> None:
    """Print the projection. Raises PrefmillError for an unknown GPU, before anything is read."""
    accelerator = accelerator_named(gpu) if gpu is not None else None
    with contextlib.redirect_stdout(sys.stderr):  # where DeepSpeed, which the libraries import, has to say something
        from ..train.projection import project

        projection = project(folder, config, accelerator)
    if as_json:
        typer.echo(json.dumps(projection.to_json()))
    else:
        _print(projection)


def _print(plan: Projection) -> None:
    excluded = "".join(f", {count} left out: {reason}" for reason, count in plan.excluded.items())
    held_out = f", {plan.held_out} held out" if plan.held_out else ""
    typer.echo(printable(f"pairs: {plan.pairs}{held_out}{excluded}"))
    typer.echo(f"steps: {plan.steps} of {plan.pairs_per_step} pairs, {plan.epochs:g} epochs")
    typer.echo(f"tokens read: {plan.chosen.tokens}, {plan.longest_batch} in the longest micro-batch")
    Console().print(_ladder(plan), markup=False)
    wall = plan.chosen.hours
    if wall is not None and plan.processes > 1:
        typer.echo(f"on {plan.processes} GPUs: {_amount(wall / plan.processes)} hours, if none waits for another")
    for line in _memory(plan):
        typer.echo(line)
    for text in plan.assumptions:
        typer.echo(printable(f"note: {text}"))


def _ladder(plan: Projection) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("way", "", "tokens", "PFLOP", "gain", "GPU hours", "cost"):
        table.add_column(heading, justify="left" if heading in {"way", ""} else "right")
    first = plan.ways[0].flops
    for way in plan.ways:
        table.add_row(
            f"{way.name} *" if way is plan.chosen else way.name,
            way.says,
            str(way.tokens),
            f"{way.flops / 1e15:.3g}",
            f"{first / way.flops:.2f}x",
            "" if way.hours is None else _amount(way.hours),
            "" if way.cost is None else _amount(way.cost),
        )
    return table


def _memory(plan: Projection) -> list[str]:
    memory = plan.memory
    parts = [(name, getattr(memory, name)) for name in ("weights", "adapter", "gradients", "optimizer")]
    said = ", ".join(f"{name} {_size(count)}" for name, count in parts)
    lines = [f"memory of each device, {plan.precision}: {said}"]
    for words, checkpointing in (("without", False), ("with", True)):
        total = memory.total(checkpointing=checkpointing)
        kept = memory.checkpointed if checkpointing else memory.activations
        text = f"  {words} gradient checkpointing: activations about {_size(kept)}, in all {_size(total)}"
        if plan.gpu:
            text += f"; {plan.gpu.name} has {_size(plan.gpu.memory)}" + (
                "" if total <= plan.gpu.memory else ": too little"
            )
        lines.append(text + (" *" if checkpointing == plan.checkpointing else ""))
    return [*lines, f"image features on disk: {_size(plan.vision_cache)}", "* as the settings are"]


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


def _amount(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
