"""`prefmill eval reward`: how often scorers of images agree with people, by the rule of the data's own evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..base.errors import PrefmillError
from .evaluate_models import AllowPartial, Report
from .options import Json, as_path
from .scorer_choices import named, scorer_choices

if TYPE_CHECKING:
    from ..bench.evaluators.rankings import Rankings
    from ..bench.evaluators.rankings_scores import RecordedScores
    from ..engine.scorers.choice import ScorerChoice


def reward_command(
    data: Annotated[
        Path,
        typer.Argument(
            help="ImageReward's or HPDv2's test.json, Pick-a-Pic rows, or a run with image preferences",
            parser=as_path,
            metavar="DATA",
        ),
    ],
    scorer: Annotated[
        str | None,
        typer.Option(help="score the images with these: SCORER, NAME=SCORER or NAME=SCORER:1+SCORER:30, with commas"),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="the folder that image names start from", parser=as_path, metavar="FOLDER")
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(help="recorded scores, FILE or NAME=FILE (repeatable); what is scored goes into the first one"),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="a checkpoint, as NAME=FOLDER (repeatable)")] = None,
    format: Annotated[str, typer.Option(help="auto, imagereward, hpdv2, pick-a-pic or run")] = "auto",
    validation: Annotated[
        Path | None, typer.Option(help="rows on which Pick-a-Pic's tie threshold is chosen", parser=as_path)
    ] = None,
    allow_partial: AllowPartial = False,
    to: Report = None,
    batch_size: Annotated[int, typer.Option(min=1, help="images at a time")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")] = "auto",
    as_json: Json = False,
) -> None:
    """Measure how well scorers agree with human rankings, from images or from recorded scores. Continues."""
    from ..bench.evaluators.rankings_catalogue import benchmark_of
    from ..bench.evaluators.rankings_result import evaluate_scores
    from ..bench.evaluators.rankings_scores import RecordedScores
    from ..bench.evaluators.report import report_of, write_report
    from ..bench.result_file import called
    from .evaluate_reward_table import print_agreement

    choices = scorer_choices(scorer or "", model or [])
    if not choices and not scores:
        raise PrefmillError("there is nothing to evaluate.", "give --scorer imagereward, or --scores FILE")
    files = _files(scores or [])
    target = files[0][0] if files else Path(f"{data.stem}.scores.jsonl")
    benchmark = benchmark_of(data, format)
    if validation is not None and benchmark.choose is None:
        raise PrefmillError(f"--validation chooses nothing for {benchmark.title}.", "leave it out")
    found = benchmark.read(data, images)
    trial = None if validation is None else benchmark.read(validation, images)
    recorded = RecordedScores()
    for path, name in files:
        if path != target or not choices:
            recorded.read(path, name)
    if choices:
        rankings = [found, *([trial] if trial else [])]
        own = _score(choices, rankings, target, batch_size, device, dtype, allow_partial)
        recorded.by_scorer = own.by_scorer | recorded.by_scorer
        recorded.files |= own.files
    result = evaluate_scores(benchmark, found, trial, recorded, path=data, partial=allow_partial)
    report = report_of("reward", called("prefmill"), result)
    if to is not None:
        write_report(to, report)
    print_agreement(result)
    if to is not None:
        typer.echo(f"report: {to}")
    if as_json:
        typer.echo(json.dumps(report))


def _score(
    choices: dict[str, ScorerChoice],
    data: list[Rankings],
    target: Path,
    batch_size: int,
    device: str,
    dtype: str,
    partial: bool,
) -> RecordedScores:
    """The scores of the chosen scorers; those that the file of scores lacks are computed into it."""
    from ..base.files import sha256_of
    from ..bench.evaluators.rankings_scores import RecordedScores, ScoreLog
    from ..bench.evaluators.rankings_scoring import score_rankings
    from ..engine.settings import EngineSettings
    from ..recipes.settings import validated
    from .progress import watched

    settings = validated(EngineSettings, {"device": device, "dtype": dtype})
    found, own = RecordedScores(), RecordedScores()
    with watched("the same command") as progress, ScoreLog(target) as log:
        if log.cut:
            progress.notice(f"{target} ended in half a row, which is cut off")
        if not log.empty:
            found.read(target)
        for name, choice in choices.items():
            own.by_scorer[name] = found.by_scorer.get(name, {})
            score_rankings(
                name, choice, settings, data, own.by_scorer[name], log, progress, batch_size=batch_size, partial=partial
            )
        progress.line(f"scores: {target}")
    own.files[str(target)] = sha256_of(target)
    return own


def _files(scores: Sequence[str]) -> list[tuple[Path, str | None]]:
    """The files of scores, with the name that their scorer goes by where one is given."""
    found = []
    for one in scores:
        has_name = "=" in one and not Path(one).exists()
        name, file = named("--scores", one, "NAME=FILE") if has_name else (None, one)
        found.append((as_path(file), name))
    return found
