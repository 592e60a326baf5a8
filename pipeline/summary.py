"""What a run holds, as plain values: for `prefmill show`, for reports and for machines."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

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


class _Backend(BaseModel):
    engine: str


class _Loss(BaseModel):
    first: float | None = None
    last: float | None = None


class _Adapter(BaseModel):
    """What is read of the trainer's manifest; `train/manifest.py` has all of it."""

    adapter_sha256: str
    base_model_key: str
    pairs: int
    steps: int
    backend: _Backend
    loss: _Loss
    device_seconds: float


def _training(run: Run) -> dict[str, Any]:
    """Return what the adapter's manifest says in a few values; empty when nothing was trained here."""
    manifest = run.read_json("training/manifest.json", _Adapter)
    if manifest is None:
        return {}
    return {
        "adapter": str(run.folder / "training" / "adapter"),
        "sha256": manifest.adapter_sha256,
        "base_model": manifest.base_model_key,
        "pairs": manifest.pairs,
        "steps": manifest.steps,
        "engine": manifest.backend.engine,
        "loss": manifest.loss.model_dump(),
        "device_seconds": manifest.device_seconds,
    }
