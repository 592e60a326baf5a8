"""A run at a glance, as it is now: stages, what can be filtered by, what cannot be read."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from pydantic import ValidationError

from ...base.errors import PrefmillError
from ..store import ManifestFields, Run
from .index import RunIndex
from .keys import UNKNOWN
from .layout import KINDS, kind_of
from .selection import REACHED, picked_guidance, reached

_BARS = 24
_QUIET = 120.0  # seconds without a new shard, after which a stage that is not complete does not count as growing


class OverviewReader:
    """Reads manifests at every call, and of the rows only what the index holds; that is counted when it has changed."""

    def __init__(self, index: RunIndex) -> None:
        self.index = index
        self._facets: tuple[int, dict[str, Any]] = (-1, {})

    def read(self) -> dict[str, Any]:
        """Return what the page shows around the entries."""
        index, problems = self.index, []
        stages = [_stage(index, name, problems) for name in _stage_names(index)]
        changed = max((stage["changed"] for stage in stages if stage["changed"]), default=None)
        quiet = None if changed is None else max(0.0, time.time() - changed)
        with index.lock:
            if self._facets[0] != index.version:
                self._facets = index.version, _facets(index)
            return {
                "name": index.run.folder.resolve().name,
                "version": index.version,
                "read": round(index.progress(), 4),
                "is_read": index.is_read,
                "is_growing": any(not stage["complete"] for stage in stages) and quiet is not None and quiet < _QUIET,
                "quiet_seconds": None if quiet is None else round(quiet),
                "entries": len(index),
                "prompts": int((index.prompt_rows >= 0).sum()),
                "images": sum(table.rows.count for table in index.named("candidates")),
                "answers": sum(table.rows.count for table in index.named("responses")),
                "pairs": sum(table.rows.count for table in index.named("pairs")),
                "stages": stages,
                "facets": self._facets[1],
                "problems": problems + index.problems(),
            }


def _stage_names(index: RunIndex) -> list[str]:
    names = {*index.tables, *index.run.stages()}
    order = [kind.name for kind in KINDS]

    def place(name: str) -> tuple[int, str]:
        kind = kind_of(name)
        return (order.index(kind.name) if kind else len(order), name)

    return sorted(names, key=place)


def _stage(index: RunIndex, name: str, problems: list[dict[str, str]]) -> dict[str, Any]:
    table = index.tables.get(name)
    manifest = _manifest(index.run, name, problems)
    read = manifest or ManifestFields()
    known = {"name": name, "has_manifest": manifest is not None, "changed": None, "rows": None, "committed": None}
    if table is not None:
        known |= {"rows": table.rows.count, "committed": table.progress[1], "changed": _newest(table.shards)}
    keys = ("complete", "inputs", "outputs", "rejects", "models", "seconds", "cost", "notices")
    return known | {key: getattr(read, key) for key in keys} | {"imported": "imported" in read.config}


def _newest(shards: list[Any]) -> float | None:
    """When the last shard was committed, in seconds since 1970."""
    try:
        return max((shard.path.stat().st_mtime for shard in shards[-8:]), default=None)
    except OSError:
        return None


def _manifest(run: Run, name: str, problems: list[dict[str, str]]) -> ManifestFields | None:
    try:
        content = run.manifest(name)
        return ManifestFields.model_validate(dict(content)) if content else None
    except (PrefmillError, ValidationError) as error:
        problems.append({"where": name, "what": error.message if isinstance(error, PrefmillError) else str(error)})
        return None


def _facets(index: RunIndex) -> dict[str, Any]:
    counts = np.bincount(reached(index.states), minlength=len(REACHED)) if len(index) else np.zeros(len(REACHED), int)
    _, scales = picked_guidance(index)
    values, numbers = np.unique(scales[~np.isnan(scales)], return_counts=True)
    return {
        "states": [{"value": name, "count": int(n)} for name, n in zip(REACHED, counts, strict=True) if n],
        "guidance": [{"value": float(f"{v:.6g}"), "count": int(n)} for v, n in zip(values, numbers, strict=True)],
        "responders": _responders(index),
        "rejects": [
            {"stage": folder, "reason": reason, "count": count}
            for (folder, reason), count in index.rejects.counts.most_common()
        ],
        "margins": _margins(index),
    }


def _responders(index: RunIndex) -> list[dict[str, Any]]:
    """How often each responder's answer was chosen and rejected."""
    sides = {}
    for side in ("chosen", "rejected"):
        keys = [table.rows.column(f"{side}_id") for table in index.named("pairs") if table.rows.count]
        numbers = index.responder_of(keys[0]) if keys else np.zeros(0, np.int32)
        sides[side] = np.bincount(numbers[numbers != UNKNOWN], minlength=len(index.responders))
    return [
        {"value": name, "chosen": int(sides["chosen"][number]), "rejected": int(sides["rejected"][number])}
        for number, name in enumerate(index.responders)
    ]


def _margins(index: RunIndex) -> dict[str, Any] | None:
    """The margins of pairs as bars between the least and the greatest."""
    found = [table.rows.column("margin") for table in index.named("pairs") if table.rows.count]
    known = found[0][np.isfinite(found[0])] if found else np.zeros(0)
    if not len(known):
        return None
    low, high = float(known.min()), float(known.max())
    bars, _ = np.histogram(known, _BARS, (low, high if high > low else math.nextafter(low, math.inf) + 1e-6))
    return {"low": low, "high": high, "bars": bars.tolist()}
