"""The tables of `prefmill quality`: classes of rejected answers, lengths, topics, examples."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..base.text import printable
from ..pipeline.pairs.negatives import CLASSES, JUNK, SetQuality
from ..pipeline.quality import Quality

_WIDTH = 100  # characters of an example's text


def print_quality(quality: Quality, folder: Path) -> None:
    """Print the quality of a run's pairs on the screen."""
    sets = [("before", quality.before), ("after", quality.after)]
    table = Table(title=f"rejected answers, from {quality.pairs_from}", title_justify="left")
    table.add_column("class")
    for name, found in sets:
        table.add_column(f"{name} the policy" if found else name, justify="right")
    for name in CLASSES:
        label = f"{name} (junk)" if name in JUNK else name
        table.add_row(label, *(_share(found.classes[name], found) if found else "-" for _, found in sets))
    table.add_section()
    rows = {
        "junk": lambda found: _share(found.junk, found),
        "pairs": lambda found: str(found.pairs),
        "chosen answers unfit": lambda found: str(found.junk_chosen),
        "words of chosen / rejected, mean": _words,
        "the longer one is chosen": lambda found: _percent(found.longer_chosen),
        "correlation of length and choice": lambda found: _number(found.length_correlation),
        "margin, median": lambda found: _number(found.margin["50%"] if found.margin else None),
    }
    for label, value in rows.items():
        table.add_row(label, *(value(found) if found else "-" for _, found in sets))
    Console().print(table)
    for label, counts in (("set aside", quality.rejects), ("answers unfit to be compared", quality.faults)):
        if counts:
            typer.echo(f"{label}: " + ", ".join(f"{count} {printable(reason)}" for reason, count in counts.items()))
    if quality.answers:
        typer.echo(f"answers: {quality.answers}, questions without one: {quality.unanswered}")
    _print_topics(quality)
    for example in quality.examples:
        texts = (("asked", example.instruction), ("chosen", example.chosen), ("rejected", example.rejected))
        typer.echo(f"\n{example.negative}: {printable(example.why)}")
        for label, text in texts:
            typer.echo(f"  {label:9}{printable(text[:_WIDTH])}{'...' if len(text) > _WIDTH else ''}")
    if quality.pairs_from == "answers without scores":
        typer.echo(f"no pairs without scores; next: prefmill run imported --to {folder}")


def _print_topics(quality: Quality) -> None:
    found = quality.after or quality.before
    if found is None or not found.topics:
        return
    table = Table("topic", title="pairs by topic", title_justify="left")
    sets = [name for name, side in (("before", quality.before), ("after", quality.after)) if side]
    for name in sets:
        table.add_column(f"pairs {name}", justify="right")
        table.add_column(f"junk {name}", justify="right")
    names = sorted({topic for side in (quality.before, quality.after) if side for topic in side.topics})
    for topic in names:
        sides = [side.topics.get(topic, {}) for side in (quality.before, quality.after) if side]
        cells = [str(side.get(key, 0)) for side in sides for key in ("pairs", "junk")]
        table.add_row(Text(printable(topic)), *cells)
    Console().print(table)


def _share(count: int, found: SetQuality) -> str:
    return f"{count} ({count / found.pairs:.0%})" if found.pairs else "0"


def _words(found: SetQuality) -> str:
    return f"{found.chosen.mean:.0f} / {found.rejected.mean:.0f}" if found.chosen and found.rejected else "-"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
