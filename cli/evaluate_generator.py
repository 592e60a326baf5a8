"""`prefmill eval generator`: tuned generators against their base, judged by several scorers of images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..base.errors import PrefmillError
from .options import Json, Limit, Remake, Settings, as_path

if TYPE_CHECKING:
    from ..pipeline.stages.score import ScoreConfig

ORACLE = "oracle"  # the micro world's; it judges unasked where the base is one of the package's checkpoints


def generator_command(
    adapter: Annotated[
        list[str], typer.Option(help="a training's folder or an adapter's, or NAME=FOLDER (repeatable)")
    ],
    prompts: Annotated[str, typer.Option(help=".txt, .json, .jsonl, .parquet, datasets folder, hub:name")],
    to: Annotated[Path, typer.Option(help="the folder to write", parser=as_path, metavar="FOLDER")],
    base: Annotated[
        str | None, typer.Option(help="the generator the adapters belong to; by default the recipe's")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="draw with the settings `generate` of this recipe")] = None,
    scorer: Annotated[str, typer.Option(help="the judges, with commas")] = "imagereward,clip",
    model: Annotated[list[str] | None, typer.Option(help="a judge's checkpoint, as SCORER=FOLDER (repeatable)")] = None,
    guidance: Annotated[str | None, typer.Option(help="scales with commas; by default the recipe's")] = None,
    images: Annotated[int, typer.Option(min=1, help="images of a prompt at each scale")] = 4,
    tie: Annotated[
        list[str] | None, typer.Option(help="SCORER=BAND: scores that differ by no more are a tie (repeatable)")
    ] = None,
    harmful: Annotated[
        list[str] | None, typer.Option(help="SCORER=VALUE: images that it scores lower are harmful (repeatable)")
    ] = None,
    shown: Annotated[int, typer.Option(min=1, help="pairs shown of the largest gains, and of the largest losses")] = 8,
    limit: Limit = None,
    settings: Settings = None,
    remake: Remake = None,
    as_json: Json = False,
) -> None:
    """Draw the same prompts with base and tuned generators, and compare: preference, diversity, harm. Continues."""
    from ..bench.evaluators.generator import DrawingSettings, evaluation_of, find_adapter
    from ..bench.evaluators.generator_result import ComparisonSettings, evaluate_generators
    from ..bench.result_file import called
    from ..pipeline.prompts import PromptsConfig
    from ..recipes.settings import override, validated
    from .progress import watched

    given = [f"generate.model={json.dumps(base)}"] if base else []
    given += [f"generate.guidance=[{guidance}]"] if guidance else []
    drawing = override(DrawingSettings(**_drawing_of(base, recipe)), [*given, *(settings or [])])
    names, judges = _judges(scorer, model or [])
    adapters = [find_adapter(one) for one in adapter]
    chosen = PromptsConfig(path=prompts, limit=limit)
    evaluation = evaluation_of(chosen, drawing, adapters, judges, images=images, with_oracle=ORACLE in names)
    comparison = validated(
        ComparisonSettings,
        {"ties": _numbers("--tie", tie or []), "harmful_below": _numbers("--harmful", harmful or []), "shown": shown},
    )
    with watched("the same command") as progress:
        result = evaluate_generators(
            to, evaluation, adapters, comparison, progress, command=called("prefmill"), remake=remake
        )
    if as_json:
        typer.echo(json.dumps({**result, "folder": str(to)}))
        return
    _print(result)
    typer.echo(f"report: {to / 'evaluation.html'}")


def _drawing_of(base: str | None, recipe: str | None) -> dict[str, Any]:
    """What a recipe says of drawing: the one named, else the one that fits the base."""
    from ..engine.settings import MICRO_PREFIX
    from ..pipeline.generate_settings import GenerateConfig
    from ..recipes.catalogue import load_recipe

    if base is None and recipe is None:
        raise PrefmillError("no base generator is named", "give --base MODEL, or --recipe NAME for its generator")
    started: Any = load_recipe(recipe or ("micro" if (base or "").startswith(MICRO_PREFIX) else "pds-dpo"))
    generate = started.generate if hasattr(started, "generate") else started.generators[0]
    own = {name: getattr(generate, name) for name in GenerateConfig.model_fields}
    return {"generate": GenerateConfig(**own), "engine": started.engine, "executor": started.executor}


def _judges(scorer: str, models: Sequence[str]) -> tuple[list[str], list[ScoreConfig]]:
    """The judges by name, and the settings of those that are scorers. Raises PrefmillError for unknown ones."""
    from ..pipeline.stages.score import ScoreConfig
    from ..recipes.settings import validated

    names = list(dict.fromkeys(name.strip() for name in scorer.split(",") if name.strip()))
    sources: dict[str, str] = {}
    for one in models:
        name, separator, source = one.partition("=")
        if not separator or not source or name not in names:
            raise PrefmillError(f"--model {one!r} names no checkpoint of a judge", f"write --model {names[0]}=FOLDER")
        sources[name] = source
    known = [name for name in names if name != ORACLE]
    settings = [{"scorer": name} | ({"model": sources[name]} if name in sources else {}) for name in known]
    return names, [validated(ScoreConfig, own) for own in settings]


def _numbers(option: str, given: Sequence[str]) -> dict[str, float]:
    numbers = {}
    for one in given:
        name, _, value = one.partition("=")
        try:
            numbers[name] = float(value)
        except ValueError:
            raise PrefmillError(f"{option} {one} holds no number", f"write it as {option} clip=0.01") from None
    return numbers


def _print(result: dict[str, Any]) -> None:
    for name, comparison in result["comparisons"].items():
        typer.echo(f"{name} against the base")
        for measure, scales in comparison["preference"].items():
            for scale, found in scales.items():
                if scale != "against_best":
                    rate, difference = found["win_rate"], found["difference"]
                    typer.echo(
                        f"  {measure:<14} guidance {scale:<4} {found['wins']} won, {found['ties']} tied, "
                        f"{found['losses']} lost: {rate['mean']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}], "
                        f"difference {difference['mean']:+.4g} [{difference['low']:+.4g}, {difference['high']:+.4g}]"
                    )
        for space, scales in comparison["diversity"].items():
            for scale, found in scales.items():
                if ratio := found["ratio"]:
                    told = f"{ratio['mean']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}] of the base's"
                    typer.echo(f"  diversity in {space}, guidance {scale}: {told}")
        for who, scales in comparison["harmful"].items():
            for scale, found in scales.items():
                typer.echo(f"  {who}, guidance {scale}: {found['base']:.3f} -> {found['tuned']:.3f}")
