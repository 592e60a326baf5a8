"""`prefmill compile`: the engines of a recipe's networks: built, refitted, verified, exported."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..base.errors import PrefmillError
from ..base.text import printable
from .compile_kept import list_command, prune_command
from .options import Json, Limit, Settings, as_path

if TYPE_CHECKING:
    from ..recipes.engines import StageModel
    from ..recipes.network_reports import NetworkReport
    from ..recipes.recipe import BaseRecipe
    from .progress import ConsoleProgress

app = typer.Typer(no_args_is_help=True, help="Build, verify and list engines: compiled forms of a recipe's networks.")
app.command("list")(list_command)
app.command("prune")(prune_command)
Named = Annotated[str, typer.Argument(help="a recipe's name, a .yaml or .py file, or a run's folder", metavar="RECIPE")]
Only = Annotated[list[str] | None, typer.Option(help="this network alone (repeatable)", metavar="NETWORK")]
Backends = Annotated[
    str | None,
    typer.Option(
        help="for all stages, several with commas; by default the recipe's, else onnxruntime or, on a GPU, tensorrt"
    ),
]


@app.command("build")
def build_command(
    recipe: Named,
    settings: Settings = None,
    backend: Backends = None,
    only: Only = None,
    range_: Annotated[
        list[str] | None,
        typer.Option("--range", help="[NETWORK.]DIMENSION=MINIMUM:OPTIMUM:MAXIMUM, e.g. batch=1:8:64 (repeatable)"),
    ] = None,
    target: Annotated[str | None, typer.Option(help="devices that are not here, e.g. sm_80,sm_89")] = None,
    prompts: Annotated[str | None, typer.Option(help="what int8 and fp8 are calibrated on: .txt, .jsonl, ...")] = None,
    calibration_prompts: Annotated[int, typer.Option(min=1, help="take the first so many of them")] = 32,
    as_json: Json = False,
) -> None:
    """Build and verify the engines that a recipe's stages miss."""
    from ..recipes.engine_builds import BuildOptions, build_stage
    from ..recipes.generator_engines import prompt_texts
    from .progress import watched

    texts = prompt_texts(prompts, calibration_prompts) if prompts else ()
    models, backends = _models(_recipe(recipe, settings), backend)
    options = BuildOptions(tuple(only or ()), _ranges(range_ or []), _parts(target), backends, texts)
    reports: list[NetworkReport] = []
    with watched("the same command") as progress:
        for model in models:
            _tell(build_stage(model, options), progress, reports)
    _require_names(only, [report.network for report in reports])
    _require_names(list(options.ranges), [f"{one.network}.{name}" for one in reports for name in one.dimensions])
    reports = [report for report in reports if report.state != "left out"]
    if as_json:
        typer.echo(json.dumps([asdict(report) for report in reports]))
    _require_built(reports)
    if as_json:
        return
    built = [report for report in reports if report.state == "built"]
    typer.echo(f"{len(built)} built, {sum(report.state == 'found' for report in reports)} found, "
               f"{sum(report.state == 'eager' for report in reports)} run eagerly")  # fmt: skip
    typer.echo(printable(f"engines: {models[0].engine.artifacts_folder}"))
    if backends:
        typer.echo(f"to run with them: --set engine.backend={backends[0]}")


@app.command("refit")
def refit_command(
    recipe: Named, settings: Settings = None, backend: Backends = None, only: Only = None, as_json: Json = False
) -> None:
    """Make the engines of changed weights, an adapter's, from those of the same networks that are there."""
    from ..recipes.engine_refits import refit_stage
    from .progress import watched

    models, backends = _models(_recipe(recipe, settings), backend)
    reports: list[NetworkReport] = []
    with watched("the same command") as progress:
        for model in models:
            _tell(refit_stage(model, tuple(only or ()), backends), progress, reports)
    _require_names(only, [report.network for report in reports])
    reports = [report for report in reports if report.state != "left out"]
    if as_json:
        typer.echo(json.dumps([asdict(report) for report in reports]))
    if missing := [f"{report.network} ({report.reason})" for report in reports if report.state == "missing"]:
        command = f"prefmill compile build {_words(recipe, settings, backend)}"
        raise PrefmillError(f"nothing to refit: {'; '.join(missing)}", command)
    _require_built(reports)
    if not as_json:
        counts = {state: sum(one.state == state for one in reports) for state in ("replaced", "built anew", "found")}
        typer.echo(", ".join(f"{count} {state}" for state, count in counts.items()))


@app.command("verify")
def verify_command(
    recipe: Named,
    settings: Settings = None,
    backend: Backends = None,
    only: Only = None,
    prompts: Annotated[
        str | None, typer.Option(help="draw these as well, and compare images, rewards and picks with float32")
    ] = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Compare a recipe's engines with its networks again, those that were built and never compared as well."""
    from ..recipes.engine_verification import verify_stage
    from ..recipes.generator_engines import draws, judged, prompt_texts
    from .progress import watched

    loaded = _recipe(recipe, settings)
    models, backends = _models(loaded, backend)
    texts = prompt_texts(prompts, limit) if prompts else ()
    if texts and not any(draws(model) for model in models):
        raise PrefmillError("no engine of this recipe draws images", "leave --prompts out")
    reports: list[NetworkReport] = []
    precision: dict[str, Any] = {}
    with watched("the same command") as progress:
        for model in models:
            _tell(verify_stage(model, tuple(only or ()), backends), progress, reports)
        wrong = [f"{report.network} ({report.reason})" for report in reports if report.state in {"missing", "differs"}]
        for model in models if texts and not wrong else ():
            for one in [model.under(name) for name in backends or (model.engine.backend,)] if draws(model) else ():
                found, folders = judged(one, loaded, texts)
                progress.line(f"{one.name}: {found.text}")
                precision |= dict.fromkeys(folders, found.model_dump(mode="json"))
    _require_names(only, [report.network for report in reports])
    reports = [report for report in reports if report.state != "left out"]
    if as_json:
        rows = [asdict(one) | ({"precision_report": precision.get(one.folder)} if texts else {}) for one in reports]
        typer.echo(json.dumps(rows))
    if wrong:
        command = f"prefmill compile build {_words(recipe, settings, backend)}"
        raise PrefmillError(f"not verified: {'; '.join(wrong)}", command)


@app.command("export")
def export_command(
    recipe: Named,
    to: Annotated[Path, typer.Option(help="a new folder", parser=as_path, metavar="FOLDER")],
    settings: Settings = None,
    only: Only = None,
    as_json: Json = False,
) -> None:
    """Write a recipe's networks as torch.export programs (.pt2) and ONNX, with a manifest, for other tools."""
    from ..base.files import write_text
    from ..base.versions import package_versions
    from ..compile.interchange import export_network, has_onnx
    from ..recipes.engines import stage_models
    from .progress import watched

    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise PrefmillError(f"{to} is there already", "choose a new folder with --to")
    written: dict[str, list[dict[str, Any]]] = {}
    seen: list[str] = []
    with watched("the same command, and another folder") as progress:
        if not has_onnx():
            progress.notice("without ONNX: pip install prefmill[onnxruntime]")
        for model in stage_models(_recipe(recipe, settings)):
            for network in model.networks():
                seen.append(network.name)
                if network.eager_only:
                    progress.line(f"{model.name} {network.name}: not exported: {network.eager_only}")
                elif not only or network.name in only:
                    written.setdefault(model.name, []).append(export_network(network, to / model.name))
                    progress.line(f"{model.name} {network.name}: {', '.join(written[model.name][-1]['files'])}")
    _require_names(only, seen)
    manifest = {"recipe": recipe, "settings": settings or [], "versions": package_versions(), "stages": written}
    write_text(to / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    typer.echo(json.dumps(manifest) if as_json else printable(f"manifest: {to / 'manifest.json'}"))


def _tell(reports: Iterator[NetworkReport], progress: ConsoleProgress, kept: list[NetworkReport]) -> None:
    """Print a line for each network when it is through."""
    for report in reports:
        kept.append(report)
        if report.state != "left out":
            progress.line(report.text)


def _require_built(reports: list[NetworkReport]) -> None:
    """Raise PrefmillError with the networks whose engines could not be built, and what their errors advise."""
    failed = [report for report in reports if report.state == "failed"]
    if failed:
        said = "; ".join(f"{report.network} ({report.reason})" for report in failed)
        eager = "run that stage eagerly: --set engine.stages.STAGE.backend=eager"
        advice = dict.fromkeys(report.fix for report in failed if report.fix)
        raise PrefmillError(f"not built: {said}", "; or ".join([*advice, eager]))


def _words(recipe: str, settings: list[str] | None, backend: str | None) -> str:
    """The arguments that name the same engines to another command."""
    named = [recipe, *(["--backend", backend] if backend else [])]
    return shlex.join([*named, *(word for setting in settings or [] for word in ("--set", setting))])


def _recipe(named: str, settings: list[str] | None) -> BaseRecipe:
    """The recipe of a name or file, or the one that a run was begun with."""
    from ..base.paths import user_path
    from ..recipes.catalogue import RECIPES, load_recipe
    from ..recipes.saved import continued, has_recipe
    from ..recipes.settings import override

    path = user_path(named, "the recipe")
    recipe = continued(path) if named not in RECIPES and has_recipe(path) else load_recipe(named)
    return override(recipe, settings or [])


def _models(recipe: BaseRecipe, named: str | None) -> tuple[list[StageModel], tuple[str, ...]]:
    """The stages that engines are for, and the backends that take the place of their own: those named, and the
    device's where no stage has one that runs engines."""
    from ..compile.builders.catalogue import DEFAULTS, builder_of
    from ..engine.device import resolve_device
    from ..recipes.engines import engine_models, stage_models

    own, backends = engine_models(recipe), _parts(named)
    for backend in backends:
        builder_of(backend)
    if not backends and not own:
        backends = (DEFAULTS[resolve_device(recipe.engine).type],)
    models = stage_models(recipe) if backends else own
    if not models:
        raise PrefmillError("no stage of this recipe runs a model here", "it needs no engines")
    return models, backends


def _parts(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def _ranges(given: list[str]) -> dict[str, tuple[int, int, int]]:
    ranges = {}
    for text in given:
        name, _, sizes = text.partition("=")
        numbers = [int(part) for part in sizes.split(":") if part.isdecimal()]
        if not name or len(numbers) != 3 or sizes.count(":") != 2:
            raise PrefmillError(
                f"--range {text!r} is no range", "write DIMENSION=MINIMUM:OPTIMUM:MAXIMUM: batch=1:8:64"
            )
        ranges[name] = (numbers[0], numbers[1], numbers[2])
    return ranges


def _require_names(given: list[str] | None, known: list[str]) -> None:
    """Raise PrefmillError for a network, or a dimension of one, that no stage has."""
    short = {name.partition(".")[2] for name in known}
    if unknown := [name for name in given or [] if name not in known and name not in short]:
        raise PrefmillError(f"no network {', '.join(unknown)}", f"choose from {', '.join(dict.fromkeys(known))}")
