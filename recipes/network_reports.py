"""What became of each network of a stage when its engines were built, refitted or verified."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .engines import StageModel

if TYPE_CHECKING:
    from ..engine.artifact import Artifact, Identity
    from ..engine.network import Network


@dataclass(frozen=True)
class NetworkReport:
    """What became of one network of a stage, with the reason.

    `built`, `found`, `failed`, `replaced` (weights in an engine's copy), `built anew`, `verified`, `differs`,
    `missing`, `eager` (it has no engine), or `left out`.
    """

    stage: str
    network: str
    backend: str
    precision: str
    state: str
    reason: str = ""
    fix: str = ""
    dimensions: tuple[str, ...] = ()
    folder: str = ""
    seconds: float = 0.0
    bytes: int = 0
    worst: float | None = None
    """The largest relative error of its verification; None where it was not run."""

    @property
    def text(self) -> str:
        """In a line."""
        head = f"{self.stage} {self.network}:"
        if self.state == "eager":
            return f"{head} runs eagerly: {self.reason}"
        if self.reason:
            compared = self.worst is not None and self.state in ("replaced", "built anew")
            error = f", error {self.worst:.1e} at most" if compared else ""
            return f"{head} {self.backend} {self.precision}, {self.state}: {self.reason}{error}"
        parity = "not executed here" if self.worst is None else f"error {self.worst:.1e} at most"
        took = f"built in {self.seconds:.1f} s" if self.state == "built" else self.state
        return f"{head} {self.backend} {self.precision}, {took}, {self.bytes / 1e6:.1f} MB, {parity}"


def networks_of(models: Sequence[StageModel]) -> Iterator[tuple[Network, list[StageModel], dict[int, str], Any]]:
    """Each network of a stage with the backends that take its weights as they are loaded, digests, and the stage."""
    groups: dict[str, list[StageModel]] = {}
    for model in models:
        groups.setdefault(model.weights_dtype, []).append(model)
    for group in groups.values():
        digests: dict[int, str] = {}
        stage = group[0].load()
        for runner in stage.runners:
            yield runner.network, group, digests, stage
        del stage
        gc.collect()  # modules refer to themselves in circles, and the next model needs the memory


def report_each(
    model: StageModel,
    only: Collection[str],
    backends: Sequence[str],
    act: Callable[[StageModel, Network, Identity], Iterator[NetworkReport]],
) -> Iterator[NetworkReport]:
    """Report what `act` does with each network of a stage under each backend, given what its engine would compute.

    A network that no engine is built of, or that is not among `only`, is reported as such.
    """
    from ..engine.artifact import digest_once, identity_of

    for network, group, digests, _ in networks_of([model.under(one) for one in backends or (model.engine.backend,)]):
        for one in group:
            if network.eager_only or network.name not in (only or (network.name,)):
                yield report_on(one, network, "eager" if network.eager_only else "left out", network.eager_only)
                continue
            weights = digest_once(network.module, digests)
            identity = identity_of(network, one.engine.backend, one.precision_of(network), weights=weights)
            yield from act(one, network, identity)


def report_on(
    model: StageModel,
    network: Network,
    state: str,
    reason: str = "",
    *,
    found: tuple[Path, Artifact] | None = None,
    seconds: float = 0.0,
    fix: str = "",
) -> NetworkReport:
    """The report on a network of a stage, with what the manifest of its engine says."""
    return NetworkReport(
        *(model.name, network.name, model.engine.backend, model.precision_of(network), state, reason, fix),
        dimensions=tuple(network.dimensions),
        folder=str(found[0]) if found else "",
        seconds=round(seconds, 2),
        bytes=found[1].size if found else 0,
        worst=max((row.maximum_relative_error for row in found[1].parity), default=None) if found else None,
    )
