"""The command `prefmill`: one file per sub-command, imported only when it is called.

Results go to stdout (`--json`: one JSON object on the last line), progress and notes to stderr. Exit codes: 0 done,
1 a defect of ours, 2 something to correct in the input or the settings, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from ..base.errors import PrefmillError
from ..base.text import printable
from . import compile as compile_group
from . import evaluate as evaluate_group
from . import micro as micro_group
from . import recipe as recipe_group
from . import train_group
from . import write as write_group
from .annotate import annotate_command
from .bench import PASSED_ON, bench_command
from .export import export_command
from .options import (
    Discard,
    Json,
    Limit,
    Price,
    Prompts,
    ReadableRun,
    Recipe,
    Remake,
    RunTo,
    Settings,
    To,
    Train,
    Work,
    as_path,
    as_readable_run,
)
from .pull import pull_command
from .push import push_command
from .quality import quality_command
from .report import report_command
from .view import view_command

LINES = "\n"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Text-to-image prompts to multimodal preference data, and that data to better models.",
)
app.add_typer(recipe_group.app, name="recipe")
app.add_typer(micro_group.app, name="micro")
app.add_typer(compile_group.app, name="compile")
app.add_typer(write_group.app, name="write")
app.add_typer(train_group.app, name="train")
app.add_typer(evaluate_group.app, name="eval")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"prefmill {version('prefmill')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="print the version and exit", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Text-to-image prompts to multimodal preference data, and that data to better models."""


@app.command()
def run(
    recipe: Recipe = None,
    to: RunTo = None,
    prompts: Prompts = None,
    limit: Limit = None,
    settings: Settings = None,
    remake: Remake = None,
    discard: Discard = False,
    train: Train = True,
    budget: Annotated[float | None, typer.Option(help="stop before the run has cost more, all calls together")] = None,
    budget_hours: Annotated[float | None, typer.Option(help="the same in device hours")] = None,
    price: Price = None,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Make preference pairs from prompts (or from what was imported), and train on them. Continues where it stopped."""
    from .run import run_command

    given = (recipe, to, prompts, limit, settings or [], remake, discard, train, as_json)
    run_command(*given, budget, budget_hours, price, work)


@app.command()
def plan(
    recipe: Recipe = None,
    to: To = None,
    prompts: Prompts = None,
    limit: Limit = None,
    settings: Settings = None,
    remake: Remake = None,
    discard: Discard = False,
    train: Train = True,
    gpu: Annotated[str | None, typer.Option(help="plan for a100, h100, h200 or another GPU")] = None,
    count: Annotated[int, typer.Option(help="how many of them")] = 1,
    price: Price = None,
    sources: Annotated[
        list[Path] | None,
        typer.Option("--from", help="a run, or a benchmark's result, whose measured speed counts (repeatable)"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what `run` with the same arguments would do and take: what is missing, device hours, cost, obstacles."""
    from .plan import plan_command

    given = (recipe, to, prompts, limit, settings or [], remake, discard, train, as_json)
    plan_command(*given, gpu, count, price, sources or [])


@app.command()
def merge(
    folders: Annotated[
        list[Path], typer.Argument(help="a finished training's folder, or several runs", parser=as_path)
    ],
    to: Annotated[Path, typer.Option(help="the folder to write", parser=as_path, metavar="FOLDER")],
    base: Annotated[str | None, typer.Option(help="where the base model is now, if it has moved")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; by default the base's own")] = None,
    as_json: Json = False,
) -> None:
    """Write base and adapter as one checkpoint, which transformers and vLLM load; or several runs as one run."""
    from .merge import merge_command

    merge_command(folders, to, base, dtype, as_json)


@app.command(name="import")
def import_(
    to: Annotated[Path, typer.Option(help="the run's folder, new or existing", parser=as_path, metavar="FOLDER")],
    prompts: Annotated[str | None, typer.Option(help="prompts, as for `prefmill run`")] = None,
    images: Annotated[str | None, typer.Option(help="a folder of images, or rows that name them")] = None,
    answers: Annotated[str | None, typer.Option(help="rows of answers about images")] = None,
    pairs: Annotated[str | None, typer.Option(help="finished pairs: PDS-DPO JSON, LLaVA JSON, TRL columns")] = None,
    image_preferences: Annotated[
        str | None, typer.Option(help="rankings or pairs of images: ImageRewardDB, HPDv2, Pick-a-Pic")
    ] = None,
    root: Annotated[str | None, typer.Option(help="the folder that image paths start from")] = None,
    format: Annotated[str, typer.Option(help="auto, jsonl, pds-dpo, llava or trl")] = "auto",
    as_json: Json = False,
) -> None:
    """Take existing images, answers or pairs into a run, to score, judge, pair or train on them."""
    from .import_into import import_command

    given = {"prompts": prompts, "images": images, "answers": answers, "pairs": pairs, "root": root, "format": format}
    import_command(to, given | {"image_preferences": image_preferences}, as_json)


@app.command()
def score(
    images: Annotated[
        Path, typer.Argument(help="a folder of images, or a table with the columns image, prompt, answer")
    ],
    to: Annotated[Path, typer.Option(help="the table to write: .csv, .json, .jsonl or .parquet")],
    prompt: Annotated[str | None, typer.Option(help="one prompt for all images")] = None,
    prompts: Annotated[Path | None, typer.Option(help="a table of image and prompt")] = None,
    scorer: Annotated[
        str,
        typer.Option(
            help="imagereward, clip, blip, pickscore, hpsv2, aesthetic, armorm, or NAME=SCORER:1+SCORER:30; with commas"
        ),
    ] = "imagereward",
    model: Annotated[list[str] | None, typer.Option(help="another checkpoint, as SCORER=FOLDER (repeatable)")] = None,
    sheet: Annotated[Path | None, typer.Option(help="also write a contact sheet (PNG), best image first")] = None,
    batch_size: Annotated[int, typer.Option(help="images at a time")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")] = "auto",
    root: Annotated[Path | None, typer.Option(help="the folder that a table's image paths start from")] = None,
    as_json: Json = False,
) -> None:
    """Score images against prompts, or answers to prompts, into a table."""
    from .score import score_command

    score_command(images, prompt, prompts, scorer, to, model or [], sheet, batch_size, device, dtype, as_json, root)


@app.command()
def show(
    folder: ReadableRun,
    stage: Annotated[str | None, typer.Argument(help="show this stage's rows")] = None,
    rejects: Annotated[bool, typer.Option("--rejects", help="list the rejects with their reasons")] = False,
    rows: Annotated[int, typer.Option(help="how many rows")] = 10,
    as_json: Json = False,
) -> None:
    """Show what a run holds: rows, rejects by reason, models, device time and cost of every stage."""
    from .show import show_command

    show_command(as_readable_run(folder), stage, rejects, rows, as_json)


@app.command()
def demo(
    to: Annotated[Path, typer.Option(help="the run's folder", parser=as_path, metavar="FOLDER")] = Path("runs/demo"),
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Run the whole loop on the built-in prompts and print where the report is."""
    from .demo import demo_command

    demo_command(to, as_json, settings or [])


@app.command()
def study(
    name: Annotated[
        str,
        typer.Argument(
            help="guidance, agreement, selection, same-seed, similarity, generation, pairs, control, junk, aspects, "
            "annotators, or all"
        ),
    ],
    to: Annotated[Path, typer.Option(help="the folder for runs and results", parser=as_path, metavar="FOLDER")] = Path(
        "runs/studies"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="how many loops, each with prompts of its own")] = 3,
    prompts: Annotated[int, typer.Option(min=8, help="prompts of each loop")] = 240,
    as_json: Json = False,
) -> None:
    """Measure one of the papers' findings anew on the micro world: a table, a picture, a sentence with its interval."""
    from .study import study_command

    study_command(name, to, seeds, prompts, as_json)


app.command(name="annotate")(annotate_command)
app.command(name="export")(export_command)
app.command(name="pull")(pull_command)
app.command(name="push")(push_command)
app.command(name="report")(report_command)
app.command(name="quality")(quality_command)
app.command(name="view")(view_command)
app.command(name="bench", context_settings=PASSED_ON)(bench_command)


def _quiet_libraries() -> None:
    """Keep the libraries' chatter off the screen; what they warn about that matters is an error of ours."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)


def _check_text(arguments: Sequence[str]) -> None:
    """Refuse bytes that are no text: neither a manifest nor a message could hold them."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise PrefmillError(f"the argument {argument} is not UTF-8 text", "rename the file or folder") from error


def share_cores() -> None:
    """Have threads that wait for each other let go of their core soon. Before torch: its OpenMP reads this once.

    By default they spin for milliseconds, which helps where nobody else wants the cores and ruins a shared machine;
    docs/architecture.md has what was measured. A user's own setting stays.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def main() -> None:
    """Run the command line. Turns errors for users into one message and exit code 2."""
    _quiet_libraries()
    share_cores()
    try:
        _check_text(sys.argv[1:])
        app()
    except PrefmillError as error:
        print(f"error: {printable(error.message, keep=LINES)}", file=sys.stderr)
        if error.fix:
            print(f"  fix: {printable(error.fix)}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(0)  # the reader of our output (head, less) has seen enough


if __name__ == "__main__":
    main()
