"""A run's stages as a page shows them: rows, rates, where the manifest is, and what they ran on."""

from __future__ import annotations

from collections import defaultdict
from typing import Any
from urllib.parse import quote

from ..store import MANIFEST, Run

MOST_REASONS = 12  # of rejects, in a stage's line
MOST_NOTICES = 20  # of a run


def stage_lines(run: Run, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a line per stage; `rate` is rows per second of device time, None where there was none."""
    lines = []
    for name, stage in summary["stages"].items():
        reasons = sorted(stage["rejects"].items(), key=lambda item: -item[1])
        rate = stage["outputs"] / stage["seconds"] if stage["seconds"] else None
        rest = sum(count for _, count in reasons[MOST_REASONS:])
        told = [*reasons[:MOST_REASONS], *([("others", rest)] if rest else [])]
        manifest = f"{quote(name)}/{MANIFEST}"
        lines.append({"name": name, **stage, "reasons": told, "rate": rate, "manifest": manifest})
    return lines


def surroundings(run: Run) -> dict[str, Any]:
    """Return what the stages ran on: hardware with its stages, versions (all that there were), notices."""
    hardware: dict[str, list[str]] = defaultdict(list)
    versions: dict[str, dict[str, None]] = defaultdict(dict)
    notices: dict[str, None] = {}
    for name in run.stages():
        manifest = run.manifest(name)
        parts = [manifest.get("device"), manifest.get("precision"), manifest.get("backend")]
        found = manifest.get("hardware") or {}
        parts += [f"{value} cores" if key == "cores" else str(value) for key, value in found.items()]
        if any(parts):
            hardware[", ".join(str(part) for part in parts if part)].append(name)
        for package, version in (manifest.get("versions") or {}).items():
            versions[package][str(version)] = None
        notices |= dict.fromkeys(manifest["notices"])
    return {
        "hardware": dict(hardware),
        "versions": {package: " and ".join(found) for package, found in versions.items()},
        "notices": list(notices)[:MOST_NOTICES],
        "more_notices": max(0, len(notices) - MOST_NOTICES),
    }
