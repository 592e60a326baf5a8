"""Comparing the engines of a stage with its networks once more."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from ..base.errors import PrefmillError
from .engines import StageModel
from .network_reports import NetworkReport, networks_of, report_on


def verify_stage(
    model: StageModel, only: Collection[str] = (), backends: Sequence[str] = ()
) -> Iterator[NetworkReport]:
    """Compare a stage's engines with its networks again, whatever their state: `verified`, `differs` or `missing`."""
    from ..compile.build import verify_engine
    from ..engine.artifact import artifacts_in, digest_once, identity_of
    from ..engine.device import device_target

    for network, group, digests, _ in networks_of([model.under(one) for one in backends or (model.engine.backend,)]):
        for one in group:
            if network.eager_only or network.name not in (only or (network.name,)):
                yield report_on(one, network, "eager" if network.eager_only else "left out", network.eager_only)
                continue
            root, target = one.engine.artifacts_folder, device_target(one.device)
            weights = digest_once(network.module, digests)
            identity = identity_of(network, one.engine.backend, one.precision_of(network), weights=weights)
            fitting = [
                (folder, artifact)
                for folder, artifact in artifacts_in(root)
                if artifact.identity.model_copy(update={"calibration": ""}) == identity and target in artifact.targets
            ]
            if not fitting:
                yield report_on(one, network, one.without, f"none fits in {root}")
            for folder, artifact in fitting:
                try:
                    checked = verify_engine(network, folder, artifact, one.device)
                    yield report_on(one, network, "verified", found=(folder, checked))
                except PrefmillError as error:
                    yield report_on(one, network, "differs", error.message, found=(folder, artifact))
