"""What a run holds, as plain values: for `prefmill show`, for reports and for machines."""

from __future__ import annotations

import json
from typing import Any

from .store import Run

# The order of the pipeline; responders come in their place by name.
STAGE_ORDER = (
    "prompts",
    "candidates",
    "picks",
    "image_scores",
    "selections",
    "instructions",
    "responses-",
    "response_scores",
    "pairs",
)


def stage_names(run: Run) -> list[str]:
    """Return the stages a run has begun, in pipeline order."""
    found = run.stages()
    return [
        name
        for stage in STAGE_ORDER
        for name in found
        if name == stage or (stage[-1] == "-" and name.startswith(stage))
    ]


def summarize(run: Run) -> dict[str, Any]:
    """Return counts, rejects by reason, models, device seconds and cost per stage, and their totals."""
    stages = {}
    for name in stage_names(run):
        manifest = run.manifest(name)
        stages[name] = {
            key: manifest[key]
            for key in ("complete", "inputs", "outputs", "rejects", "models", "seconds", "cost", "notices")
        } | {"imported": "imported" in manifest["config"]}
    costs = [stage["cost"] for stage in stages.values() if stage["cost"] is not None]
    training = _training(run)
    return {
        "stages": stages,
        "device_hours": round(sum(stage["seconds"] for stage in stages.values()) / 3600, 6),
        "cost": round(sum(costs), 6) if costs else None,
        **({"training": training} if training else {}),
    }


def _training(run: Run) -> dict[str, Any]:
    """Return what the adapter's manifest says in a few values; empty when nothing was trained here."""
    path = run.folder / "training" / "manifest.json"
    if not path.exists():
        return {}
    manifest = json.loads(path.read_text(encoding="utf-8"))
    return {
        "adapter": str(run.folder / "training" / "adapter"),
        "sha256": manifest["adapter_sha256"],
        "base_model": manifest["base_model_key"],
        "pairs": manifest["pairs"],
        "steps": manifest["steps"],
        "engine": manifest["backend"]["engine"],
        "loss": {key: manifest["loss"].get(key) for key in ("first", "last")},
        "device_seconds": manifest["device_seconds"],
    }
