"""The screen of `prefmill eval reward`: every scorer with its intervals, beside the published numbers."""

from __future__ import annotations

import sys
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..base.text import printable


def print_agreement(result: dict[str, Any]) -> None:
    """Print the measures of all scorers in percent, with 95 % intervals over prompts, and what they are shares of."""
    data, coverage = result["data"], result["coverage"]
    measures = list(next(iter(result["scorers"].values()))["measures"])
    title = (
        f"{result['title']}: {data['prompts']:,} prompts, {data['pairs']:,} pairs, {data['ties']:,} ties of people's"
    )
    console = Console(width=None if sys.stdout.isatty() else 100_000, highlight=False)
    for group in _groups(measures, result["headline"]):
        table = Table(box=None, pad_edge=False, title=Text(printable(title)), title_justify="left")
        for heading in ("scorer", *group):
            table.add_column(heading, justify="left" if heading == "scorer" else "right")
        for name, scorer in result["scorers"].items():
            table.add_row(Text(printable(name)), *(_share(scorer["measures"][one]) for one in group))
        if result["headline"] in group:
            for one in result["published"]:
                table.add_row(Text(f"{one['name']}, published"), f"{one['value']:.2f}", *([""] * (len(group) - 1)))
        console.print(table)
        title = ""
    typer.echo(printable(f"rule {result['rule_version']}: {result['rule']}"))
    for source in dict.fromkeys(one["source"] for one in result["published"]):
        typer.echo(
            f"published: {', '.join(one['name'] for one in result['published'] if one['source'] == source)}: {source}"
        )
    for line in _remarks(result, data, coverage):
        typer.echo(printable(line))


def _groups(measures: list[str], headline: str) -> list[list[str]]:
    """The headline and what belongs to it in one table, the measures at several k in another."""
    at = [name for name in measures if "@" in name]
    return [[headline, *(name for name in measures if name != headline and name not in at)], *([at] if at else [])]


def _remarks(result: dict[str, Any], data: dict[str, Any], coverage: dict[str, Any]) -> list[str]:
    lines = []
    if data["official"] is False:
        lines.append("the data is not the official file, which the published numbers are about")
    if coverage["items"] < coverage["of"]:
        first, why = next(iter(coverage["left_out"].items()))
        missing = coverage["of"] - coverage["items"]
        lines.append(
            f"coverage: {coverage['items']:,} of {coverage['of']:,} items; {missing:,} left out, as {first}: {why}"
        )
    lines += [f"rows left out: {count:,} {reason}" for reason, count in data["rows_left_out"].items()]
    for name, scorer in result["scorers"].items():
        chosen = ", ".join(f"{what} {value:g}" for what, value in scorer["chosen"].items())
        lines += [f"{name}: {chosen}, chosen on the validation file"] if chosen else []
        if cut := scorer["truncated_prompts"]:
            lines.append(f"{name}: did not see the whole of {cut:,} prompts")
    differences = result["differences"]
    for name, one in differences.get("minus", {}).items():
        sure = one["low"] is not None and (one["low"] > 0 or one["high"] < 0)
        verdict = "" if sure else ", which may be chance"
        lines.append(f"{differences['of']} minus {name}: {_points(one)} points of {differences['measure']}{verdict}")
    return lines


def _share(measure: dict[str, Any]) -> str:
    if measure["value"] is None:
        return "-"
    return f"{_points(measure)} of {measure['of']:g}"


def _points(one: dict[str, Any]) -> str:
    if one["value"] is None:
        return "-"
    interval = "" if one["low"] is None else f" [{100 * one['low']:.2f}, {100 * one['high']:.2f}]"
    return f"{100 * one['value']:.2f}{interval}"
