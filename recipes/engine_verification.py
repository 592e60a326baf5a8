"""Comparing the engines of a stage with its networks once more."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from ..base.errors import PrefmillError
from .engines import StageModel
from .network_reports import NetworkReport, report_each, report_on

if TYPE_CHECKING:
    from ..engine.artifact import Identity
    from ..engine.network import Network


def verify_stage(
    model: StageModel, only: Collection[str] = (), backends: Sequence[str] = ()
) -> Iterator[NetworkReport]:
    """Compare a stage's engines with its networks again, whatever their state: `verified`, `differs` or `missing`."""
    return report_each(model, only, backends, _verify)


def _verify(model: StageModel, network: Network, identity: Identity) -> Iterator[NetworkReport]:
    from ..compile.build import verify_engine
    from ..engine.artifact import artifacts_in
    from ..engine.device import device_target

    root, target = model.engine.artifacts_folder, device_target(model.device)
    fitting = [
        (folder, artifact)
        for folder, artifact in artifacts_in(root)
        if artifact.identity.model_copy(update={"calibration": ""}) == identity and target in artifact.targets
    ]
    if not fitting:
        yield report_on(model, network, model.without, f"none fits in {root}")
    for folder, artifact in fitting:
        try:
            checked = verify_engine(network, folder, artifact, model.device)
            yield report_on(model, network, "verified", found=(folder, checked))
        except PrefmillError as error:
            yield report_on(model, network, "differs", error.message, found=(folder, artifact))
