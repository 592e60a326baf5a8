"""`prefmill recipe list` and `prefmill recipe show`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .options import Json, Settings

app = typer.Typer(no_args_is_help=True, help="List and print the recipes: the configurations a run starts from.")


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """List the recipes."""
    from ..recipes.catalogue import RECIPES

    lines = {name: (recipe.__doc__ or "").strip().splitlines()[0] for name, recipe in RECIPES.items()}
    if as_json:
        typer.echo(json.dumps(lines))
        return
    width = max(map(len, lines))
    for name, line in lines.items():
        typer.echo(f"{name:<{width}} {line}")


@app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="a recipe's name, or a .yaml or .py file")],
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Print a recipe as YAML with what each setting means, to read or to save and edit."""
    from ..recipes.catalogue import load_recipe
    from ..recipes.described import described_yaml
    from ..recipes.settings import override

    recipe = override(load_recipe(name), settings or [])
    typer.echo(recipe.model_dump_json() if as_json else described_yaml(recipe), nl=as_json)
