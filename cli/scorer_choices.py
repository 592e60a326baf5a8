"""Scorers of images as commands take them: SCORER, NAME=SCORER or NAME=SCORER:1+SCORER:30, with commas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..base.errors import PrefmillError

if TYPE_CHECKING:
    from ..engine.scorers.choice import ScorerChoice


def scorer_choices(text: str, models: Sequence[str]) -> dict[str, ScorerChoice]:
    """Return the scorers that were asked for, by name; `models` are checkpoints, as NAME=FOLDER.

    Raises PrefmillError for a scorer that does not exist, a name twice, and a checkpoint of none of them.
    """
    from ..engine.scorers.choice import ScorerChoice
    from ..recipes.settings import validated

    sources = dict(named("--model", one, "NAME=FOLDER") for one in models)
    choices: dict[str, ScorerChoice] = {}
    used: set[str] = set()
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, _, spec = part.partition("=")
        if name in choices:
            raise PrefmillError(f"--scorer has {name!r} twice.", "call one of them otherwise: NAME=SCORER")
        choice = _choice(spec or name, sources, name)
        used |= {name, *choice.get("mixture", {})}
        choices[name] = validated(ScorerChoice, choice)
    if unused := sorted(sources.keys() - used):
        raise PrefmillError(f"--model names {unused[0]!r}, which --scorer does not.", "correct one of the two")
    return choices


def _choice(spec: str, sources: dict[str, str], name: str) -> dict[str, Any]:
    """Settings of one scorer: SCORER, or a mixture SCORER:WEIGHT+SCORER:WEIGHT."""
    if ":" not in spec and "+" not in spec:
        model = sources.get(name)
        return {"scorer": spec, **({"model": model} if model else {})}
    mixture: dict[str, float] = {}
    for part in spec.split("+"):
        scorer, _, weight = part.partition(":")
        try:
            mixture[scorer] = float(weight or 1)
        except ValueError as error:
            raise PrefmillError(f"--scorer {spec!r}: {weight!r} is no weight.", "write SCORER:1+SCORER:30") from error
    return {"mixture": mixture, "models": {one: sources[one] for one in mixture if one in sources}}


def named(option: str, text: str, shape: str) -> tuple[str, str]:
    """Return the two sides of NAME=VALUE. Raises PrefmillError for anything else than `shape`."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise PrefmillError(f"{option} {text!r} is not {shape}.", f"write {option} {shape}")
    return name, value
