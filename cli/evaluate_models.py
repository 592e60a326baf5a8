"""What commands of `prefmill eval` have in common: options, the models they ask, and answers written first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..base.errors import PrefmillError
from .options import as_path

if TYPE_CHECKING:
    from ..bench.evaluators.answering.questions import BenchmarkQuestion
    from ..engine.responders.settings import ModelChoice
    from ..engine.settings import EngineSettings, Sampling

Model = Annotated[
    str | None, typer.Option(help="write the answers first, by this model: a folder, hub id, or a server's name of it")
]
Adapter = Annotated[
    Path | None, typer.Option(help="a training, or an adapter, of --model", parser=as_path, metavar="FOLDER")
]
Images = Annotated[
    Path | None, typer.Option(help="the folder of the questions' images", parser=as_path, metavar="FOLDER")
]
Questions = Annotated[Path | None, typer.Option(help="the benchmark's questions", parser=as_path, metavar="FILE")]
Answers = Annotated[
    Path | None, typer.Option(help="answers; with --model, where they go", parser=as_path, metavar="FILE")
]
Suffix = Annotated[
    str, typer.Option(help="put this after yes/no questions, such as 'Please answer Yes or No.'", metavar="TEXT")
]
Limit = Annotated[int | None, typer.Option(min=1, help="ask so many of the questions, spread over the file")]
AllowPartial = Annotated[bool, typer.Option("--allow-partial", help="evaluate what is there, and say what is missing")]
ModelSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="a setting of a model, of sampling or of the engine, e.g. model.backend=openai, judge.url=..., "
        "engine.device=cpu (repeatable)",
        metavar="KEY=VALUE",
    ),
]
Report = Annotated[Path | None, typer.Option(help="write the report as JSON", parser=as_path, metavar="FILE")]


@dataclass(frozen=True)
class ChosenModels:
    """The models that a command line names, by the option, and how they run."""

    choices: dict[str, ModelChoice]
    engine: EngineSettings
    sampling: Sampling | None


def chosen_models(settings: Sequence[str], **models: str | None) -> ChosenModels:
    """Return the models by option, with the settings `OPTION.key=value`; `engine.` and `sampling.` are for all.

    Raises PrefmillError for settings of a model that is not named, and for unknown ones.
    """
    from ..engine.responders.settings import ModelChoice
    from ..engine.settings import EngineSettings, Sampling
    from ..recipes.settings import override, validated

    own: dict[str, list[str]] = {name: [] for name in (*models, "engine", "sampling")}
    for setting in settings:
        prefix, _, rest = setting.partition(".")
        if prefix not in own or not rest:
            raise PrefmillError(
                f"--set {setting}: nothing here has that setting.", f"begin it with one of {', '.join(own)}, and a dot"
            )
        own[prefix].append(rest)
    choices: dict[str, ModelChoice] = {}
    for name, model in models.items():
        if model is None:
            if own[name]:
                raise PrefmillError(f"--set {name}.{own[name][0]}: no --{name} is given.", f"give --{name}")
            continue
        # the backend first: the number of requests at a time that suits it is settled where it is named
        backend = dict(one.split("=", 1) for one in own[name] if one.startswith("backend="))
        choices[name] = override(validated(ModelChoice, {"model": model, **backend}), own[name])
    sampling = override(Sampling(), own["sampling"]) if own["sampling"] else None
    return ChosenModels(choices, override(EngineSettings(), own["engine"]), sampling)


def write_model_answers(
    questions: Sequence[BenchmarkQuestion],
    answers: Path | None,
    images: Path | None,
    adapter: Path | None,
    chosen: ChosenModels,
    *,
    suffix: str = "",
    limit: int | None = None,
    allow_partial: bool = False,
) -> Path:
    """Have --model write its answers to questions into --answers, or continue to; return the file.

    `limit`: so many of the questions, spread over all.
    """
    from ..bench.evaluators.answering.questions import first_of
    from ..bench.evaluators.answering.writing import Answering, adapter_in, write_answers
    from .progress import watched

    if answers is None:
        raise PrefmillError("--model needs to know where to write the answers.", "give --answers FILE")
    own = None if adapter is None else adapter_in(adapter)
    answering = Answering(chosen.choices["model"], images, own, chosen.engine, suffix, chosen.sampling)
    asked = first_of(questions, limit)
    with watched() as progress:
        written = write_answers(answers, asked, answering, progress, partial_answers=allow_partial)
        progress.line(f"answers of {written.model}: {written.path}")
        for name, why in list(written.failures.items())[:5]:
            progress.notice(f"question {name} has no answer: {why}")
    return written.path


def one_of(option: str, value: str, known: Iterable[str]) -> str:
    """Return a value that is one of those known. Raises PrefmillError for another."""
    names = list(known)
    if value not in names:
        raise PrefmillError(f"{option} {value!r} is not known", f"choose one of {', '.join(names)}")
    return value


def required(path: Path | None, option: str, what: str) -> Path:
    """Return the path given with an option. Raises PrefmillError where none is."""
    if path is None:
        raise PrefmillError(f"there are no {what}.", f"give {option} FILE")
    return path
