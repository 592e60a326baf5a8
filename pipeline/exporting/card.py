"""The data card of an export: README.md as the Hugging Face Hub reads it, plots, and the run's manifests.

Names in it (models, topics, folders) are other people's: they are shown, not obeyed, neither as Markdown nor as HTML.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import yaml

from ...base.files import write_text
from ...base.text import printable
from ..store import Run
from ..summary import stage_names
from .card_plots import draw_plots
from .export import Exported, Finish
from .lineage import PAIR_COLUMNS, TRAIN
from .pair_rows import pair_rows
from .writer import ExportFormat

CARD = "README.md"
MANIFESTS = "prefmill.json"
MOST_NAMES = 20  # of a kind in a table
_MARKUP = re.compile(r"([\\`*_\[\]#|~])")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def card_writer(license: str | None = None) -> Finish:
    """Return what adds a data card to an export. `license`: an identifier of the Hub's, such as cc-by-4.0."""

    def write(exported: Exported, folder: Path) -> None:
        plots = draw_plots(exported.tally, folder)
        write_text(folder / MANIFESTS, json.dumps(_manifests(exported), indent=1, ensure_ascii=False) + "\n")
        write_text(folder / CARD, _card(exported, license, plots))

    return write


def shown(text: object, limit: int = 120) -> str:
    """Return a text that Markdown prints as it is: no markup, no HTML, no control characters."""
    plain = printable(str(text))
    plain = plain if len(plain) <= limit else f"{plain[:limit]}..."
    return _MARKUP.sub(r"\\\1", html.escape(plain, quote=False))


@cache
def _template() -> jinja2.Template:
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=folder, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    return environment.get_template("card.md")


def _card(exported: Exported, license: str | None, plots: list[tuple[str, str]]) -> str:
    tally, name = exported.tally, exported.path.name
    stages = list(_stages(exported.run))
    loading = exported.format.loading.format(name=re.sub(r"[^\w./-]+", "-", name))
    page = _template().render(
        header=_header(exported, license),
        name=shown(name),
        total=sum(exported.rows.values()),
        unit=exported.format.unit,
        images=exported.images,
        format=exported.format.name,
        what=exported.format.what,
        fence="```",
        language="python" if "import " in loading else "",
        loading=loading,
        rows=list(exported.rows.items()),
        left_out=list(exported.left_out.items()),
        columns=", ".join(f"`{column}`" for column in PAIR_COLUMNS) if exported.format.rows is pair_rows else "",
        plots=plots,
        counted=[
            *_counted("topic", "rows", tally.topics),
            *_counted("generator", "rows", tally.image_models),
            *_won(tally.won, tally.lost),
        ],
        stages=stages,
        versions=", ".join(f"{shown(key)} {shown(value)}" for key, value in _versions(exported.run).items())
        or "unknown",
        license=f"This data set is offered under `{shown(license)}`."
        if license
        else "No licence was stated for this data set.",
    )
    return re.sub(r"\n{3,}", "\n\n", page)


def _header(exported: Exported, license: str | None) -> str:
    total = sum(exported.rows.values())
    values: dict[str, Any] = {
        "pretty_name": printable(exported.path.name),
        **({"license": license} if license else {}),
        "task_categories": ["image-text-to-text" if exported.format.rows is pair_rows else "text-to-image"],
        "tags": ["preference", "prefmill", exported.format.name],
        "size_categories": [next((size for limit, size in _SIZES if total < limit), "n>10M")],
        "configs": [
            _config(exported.format, name, pattern, exported.rows) for name, pattern in exported.format.tables.items()
        ],
    }
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _config(format: ExportFormat, name: str, pattern: str, splits: Iterable[str]) -> dict[str, Any]:
    if "{" not in pattern:
        return {"config_name": name, "data_files": pattern}
    files = [
        {"split": split, "path": pattern.format(split=split, suffix="" if split == TRAIN else f"-{split}")}
        for split in splits
    ]
    return {
        "config_name": name,
        "data_files": files,
        **({"default": True} if len(format.tables) > 1 and name == next(iter(format.tables)) else {}),
    }


def _stages(run: Run) -> Iterator[dict[str, Any]]:
    for name in stage_names(run):
        manifest = run.manifest(name)
        config = manifest.get("config", {})
        source, model = config.get("imported"), config.get("model")
        if isinstance(source, dict):
            model = f"imported: {source.get('name')}"
        rejects = ", ".join(f"{count} {reason}" for reason, count in manifest.get("rejects", {}).items())
        how = ", ".join(filter(None, (manifest.get(key) for key in ("precision", "backend", "device"))))
        yield {
            "name": shown(name),
            "rows": manifest.get("outputs", 0),
            "rejects": shown(rejects),
            "model": _linked(str(model)) if model else "",
            "weights": shown(", ".join(manifest.get("models", []))),
            "how": shown(how),
        }


def _linked(model: str) -> str:
    """A model of the Hub as a link to its page, which has its licence; folders by their name alone."""
    if _HUB_ID.fullmatch(model) and not Path(model).exists():
        return f"[{shown(model)}](https://huggingface.co/{model})"
    return shown(Path(model).name if "/" in model else model)


def _versions(run: Run) -> dict[str, str]:
    return {key: str(value) for name in run.stages() for key, value in run.manifest(name).get("versions", {}).items()}


def _manifests(exported: Exported) -> dict[str, Any]:
    counts = {"rows": exported.rows, "images": exported.images, "left_out": exported.left_out}
    stages = {name: _without_paths(dict(exported.run.manifest(name))) for name in stage_names(exported.run)}
    return {"format": exported.format.name, **counts, "stages": stages}


def _without_paths(value: Any) -> Any:
    """A manifest as strangers may see it: of this machine's paths only the last part."""
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value


def _counted(title: str, head: str, counts: Counter[str]) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    if counts:
        rows = [(shown(name), str(count)) for name, count in counts.most_common(MOST_NAMES)]
        rest = counts.total() - sum(count for _, count in counts.most_common(MOST_NAMES))
        yield title, head, [*rows, *([("others", str(rest))] if rest else [])]


def _won(won: Counter[str], lost: Counter[str]) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    names = sorted(won | lost, key=lambda name: (-won[name], name))[:MOST_NAMES]
    if names:
        yield "who wins", "chosen, rejected", [(shown(name), f"{won[name]}, {lost[name]}") for name in names]
