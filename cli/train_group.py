"""`prefmill train`: an adapter on a run's pairs, unless the first word names another thing to train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .options import Json, RunFolder, Settings, as_path
from .train_generator import generator

DEFAULT = "adapter"


class TrainGroup(TyperGroup):
    """`prefmill train runs/first` is `prefmill train adapter runs/first`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, the default command put before them where they name none."""
        return super().parse_args(ctx, self.with_default(args))

    def with_default(self, args: list[str]) -> list[str]:
        """Return the arguments with the default before what is no command's name."""
        return args if not args or args[0] in self.commands or args[0] in {"--help", "-h"} else [DEFAULT, *args]


app = typer.Typer(
    cls=TrainGroup,
    no_args_is_help=True,
    help="Train: a LLaVA on a run's pairs (`prefmill train RUN`), an image reward, or the generator.",
)


@app.command(name=DEFAULT)
def adapter(
    folder: RunFolder,
    to: Annotated[
        Path | None,
        typer.Option(help="where the adapter goes; by default RUN/training", parser=as_path, metavar="FOLDER"),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="take the training settings of this recipe")] = None,
    settings: Settings = None,
    plan: Annotated[bool, typer.Option("--plan", help="say what it would take, and load and write nothing")] = False,
    gpu: Annotated[str | None, typer.Option(help="with --plan: hours and cost on this GPU, such as h100")] = None,
    evaluate: Annotated[
        str | None, typer.Option("--eval", help="afterwards ask the model without and with the adapter: pope or micro")
    ] = None,
    eval_questions: Annotated[
        Path | None, typer.Option(help="POPE's questions, a file or folder", parser=as_path, metavar="PATH")
    ] = None,
    eval_images: Annotated[
        Path | None, typer.Option(help="the folder of their images", parser=as_path, metavar="FOLDER")
    ] = None,
    eval_count: Annotated[
        int | None, typer.Option(min=1, help="so many questions (300), or micro scenes (100)")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a LLaVA on a run's pairs: LoRA DPO under DeepSpeed ZeRO-2. Continues from its last checkpoint."""
    from .train import EvaluationOptions, train_command

    evaluation = EvaluationOptions(evaluate, eval_questions, eval_images, eval_count)
    train_command(folder, to, recipe, settings or [], plan, gpu, as_json, evaluation)


@app.command()
def reward(
    folder: RunFolder,
    to: Annotated[
        Path | None,
        typer.Option(help="where the reward goes; by default RUN/reward-training", parser=as_path, metavar="FOLDER"),
    ] = None,
    micro: Annotated[bool, typer.Option("--micro", help="begin with the micro world's settings")] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train an image reward on a run's preferences between images: Bradley-Terry, as ImageReward was."""
    from .train_reward import train_reward_command

    train_reward_command(folder, to, micro, settings or [], as_json)


app.command(name="generator")(generator)
