"""`prefmill train generator`: LoRA on a text-to-image model, by preferences or a reward."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, RunFolder, Settings, as_path


def generator(
    folder: RunFolder,
    to: Annotated[
        Path | None,
        typer.Option(help="where the adapter goes; by default RUN/generator-METHOD", parser=as_path, metavar="FOLDER"),
    ] = None,
    method: Annotated[str | None, typer.Option(help="flow-dpo, ppo or refl")] = None,
    tuning: Annotated[
        str | None, typer.Option(help="settings by name: sd3, micro; by default those of the run's generator")
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Tune the generator on a run's prompts: Flow-DPO on preferences between images, or PPO or ReFL on a reward.

    Continues from its last checkpoint.
    """
    from ..pipeline.store import Run
    from ..recipes.generator_tuning import load_tuning
    from ..recipes.settings import override
    from ..train.generator.training import train_generator_with_progress
    from .progress import watched

    Run.open(folder)
    given = [f"method={method}"] if method is not None else []
    config = override(load_tuning(tuning, folder), [*given, *(settings or [])])
    output = to or folder / f"generator-{config.method}"
    with watched(f"prefmill train generator {folder} --to {output}") as progress:
        manifest = train_generator_with_progress(folder, output, config, progress)
    if as_json:
        typer.echo(manifest.model_dump_json())
        return
    first, last = manifest.summary["samples"]["first"], manifest.summary["samples"]["last"]
    for column in ("reward", "diversity"):
        typer.echo(f"{column} of the samples: {first[f'eval_{column}']:.4g} -> {last[f'eval_{column}']:.4g}")
    typer.echo(f"adapter: {output / 'adapter'}")
