"""How often a run will ask the servers it names, and what that may cost: said before the first of these calls."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from urllib.parse import urlsplit

from ..base.errors import PrefmillError
from ..engine.responders.catalogue import RESPONDERS, backend_of
from ..engine.responders.settings import ModelChoice
from ..pipeline.annotating.settings import AnnotatorChoice
from ..pipeline.store import Run
from .plan import PlannedStage, Problem
from .recipe import BaseRecipe, Recipe


def server_problems(recipe: BaseRecipe, names: Collection[str]) -> Iterator[Problem]:
    """Yield the models of stages of these names that cannot be asked: no key, a wrong one, nobody there."""
    found: dict[tuple[str, ...], PrefmillError | None] = {}
    for _, setting, choice in _asked(recipe, names):
        server = (choice.backend, choice.url or "", choice.server.api_key or "")
        if server not in found:
            try:
                backend_of(choice).check(choice)
                found[server] = None
            except PrefmillError as error:
                found[server] = error
        if error := found[server]:
            yield Problem.of(setting, error)


def server_calls(run: Run, recipe: BaseRecipe, stages: Sequence[PlannedStage]) -> Iterator[str]:
    """Yield, for each model on a server, about how often it will be asked, and the cost as measured here."""
    planned = {stage.name: stage for stage in stages if stage.missing != 0}
    for name, setting, choice in _asked(recipe, planned):
        if choice.backend not in RESPONDERS or backend_of(choice).loads_weights:
            continue
        where = urlsplit(choice.url).hostname if choice.url else "its vendor's server"
        rows = _calls(choice, recipe, planned[name], stages)
        told = "as often as rows come" if rows is None else f"about {rows} times"
        usage = run.manifest(name).get("usage") or {}
        price = ""
        if rows is not None and usage.get("cost") is not None and usage.get("requests"):
            price = f", cost about {rows * usage['cost'] / usage['requests']:.2f} at what it was so far"
        yield f"{setting}: {choice.model} on {where} is asked {told}{price}"


def _calls(choice: ModelChoice, recipe: BaseRecipe, stage: PlannedStage, stages: Sequence[PlannedStage]) -> int | None:
    if not isinstance(choice, AnnotatorChoice):
        return _rows(recipe, stage, stages)
    prompts = next((one.inputs for one in stages if one.name == "prompts"), None)
    missing = stage.missing if stage.missing is not None else prompts
    return None if missing is None else missing * choice.requests


def _rows(recipe: BaseRecipe, stage: PlannedStage, stages: Sequence[PlannedStage]) -> int | None:
    if stage.missing is not None:
        return stage.missing
    if stage.expected is not None:
        return max(0, stage.expected - stage.done)
    prompts = next((one.inputs for one in stages if one.name == "prompts"), None)
    if prompts is None or not isinstance(recipe, Recipe):
        return None
    return max(0, prompts * recipe.instruct.per_image - stage.done)


def _asked(recipe: BaseRecipe, names: Collection[str]) -> Iterator[tuple[str, str, ModelChoice]]:
    """Yield the models that stages of these names ask: the stage, the place in the settings, the choice."""
    for stage in recipe.STAGES:
        settings = recipe.settings_of(stage)
        for number, (name, entry) in enumerate(stage.instances(settings).items()):
            place = f"{stage.setting}.{number}" if isinstance(settings, tuple) else stage.setting
            inner = {place: entry, **{f"{place}.{key}": value for key, value in entry}}
            if name in names:
                yield from ((name, key, value) for key, value in inner.items() if isinstance(value, ModelChoice))
