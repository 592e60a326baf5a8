"""`prefmill recipe list` and `prefmill recipe show`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import typer

from ..recipes.catalogue import RECIPES, load_recipe
from ..recipes.settings import override, to_yaml


def list_command(as_json: bool) -> None:
    """Print every recipe's name and first line."""
    lines = {name: (recipe.__doc__ or "").strip().splitlines()[0] for name, recipe in RECIPES.items()}
    if as_json:
        typer.echo(json.dumps(lines))
        return
    for name, line in lines.items():
        typer.echo(f"{name:<10} {line}")


def show_command(name: str, settings: Sequence[str], as_json: bool) -> None:
    """Print a recipe with overrides applied."""
    recipe = override(load_recipe(name), settings)
    typer.echo(recipe.model_dump_json() if as_json else to_yaml(recipe), nl=as_json)
