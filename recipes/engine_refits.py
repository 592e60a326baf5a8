"""Engines for changed weights, an adapter's above all, from the engines of a stage that are there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import PrefmillError
from .engines import StageModel
from .network_reports import NetworkReport, report_each, report_on

if TYPE_CHECKING:
    import torch

    from ..engine.artifact import Artifact, Identity
    from ..engine.network import Network


def refit_stage(model: StageModel, only: Collection[str] = (), backends: Sequence[str] = ()) -> Iterator[NetworkReport]:
    """Make what a stage misses from engines of the same graph: `found`, `replaced`, `built anew`, `missing`, `failed`.

    `missing` is a network no engine of whose graph is here. One that fails is reported, and the others go on.
    """
    return report_each(model, only, backends, _refit)


def _refit(model: StageModel, network: Network, identity: Identity) -> Iterator[NetworkReport]:
    from ..compile.refit import refit_engine
    from ..engine.artifact import find_artifact
    from ..engine.settings import EIGHT_BIT

    root, precision = model.engine.artifacts_folder, identity.precision
    try:
        yield report_on(model, network, "found", found=find_artifact(root, identity, model.device))
        return
    except LookupError:
        source = _of_the_same_graph(root, identity, model.device)
    if source is None:
        yield report_on(model, network, model.without, f"no engine of its graph is in {root}")
        return
    if precision in EIGHT_BIT:  # the scales follow from the weights
        fix = "prefmill compile build RECIPE --prompts FILE"
        yield report_on(model, network, "failed", f"{precision} is calibrated anew for other weights", fix=fix)
        return
    try:
        made = refit_engine(network, *source, model.device, root)
    except PrefmillError as error:
        yield report_on(model, network, "failed", error.message, fix=error.fix)
        return
    said = str(made[1].notes.get("refit", ""))
    state = "built anew" if said.startswith("built anew") else "replaced"
    yield report_on(model, network, state, said.removeprefix("built anew: "), found=made)


def _of_the_same_graph(root: Path, identity: Identity, device: torch.device) -> tuple[Path, Artifact] | None:
    """The newest engine that differs from this one in its weights alone."""
    from ..engine.artifact import artifacts_in, find_artifact

    others = {artifact.identity.weights for _, artifact in artifacts_in(root)}
    found = []
    for weights in others:
        try:
            found.append(find_artifact(root, identity.model_copy(update={"weights": weights}), device))
        except LookupError:
            continue
    return max(found, key=lambda one: (one[1].created, one[0].name), default=None)
