"""A LoRA DPO training on the pairs of a run: what the command line, recipes and programs call."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from ..engine.responders.adapter import check_adapter
from .curves import PANELS
from .launch import OnEvent, TrainingKind, launch, require_apart
from .manifest import ADAPTER, MANIFEST, AdapterManifest, PreferencePlan
from .nodes import require_work
from .settings import DPOTrainingConfig

KIND = TrainingKind(
    "preference", PreferencePlan, AdapterManifest, ADAPTER, lambda output: check_adapter(output / ADAPTER), PANELS
)


def train(
    run_folder: Path, output: Path, config: DPOTrainingConfig, on_event: OnEvent = lambda event: None
) -> AdapterManifest:
    """Train an adapter on a run's pairs, or continue a training that was stopped; return the adapter's manifest.

    `output` holds, at the end, adapter/ in peft's format, and what `launch` says. Raises PrefmillError as that does.
    """
    from .data import load_pairs, pairs_digest

    output = output.absolute()
    require_apart(output, run_folder)
    margins = config.margin_weight != "none"
    pairs = load_pairs(run_folder, margins=margins)
    if not (output / MANIFEST).exists():
        require_work(config, len(pairs), config.batch_size)
    digest = pairs_digest(pairs, margins=margins)
    plan = PreferencePlan(run=str(run_folder.absolute()), examples=len(pairs), examples_digest=digest, config=config)
    return cast(AdapterManifest, launch(KIND, plan, output, on_event))
