"""Building the engines that a recipe's stages miss, one stage's model in memory at a time."""

from __future__ import annotations

import gc
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import PrefmillError
from ..base.progress import Progress
from .engines import StageModel, engine_models
from .recipe import BaseRecipe

if TYPE_CHECKING:
    from ..engine.artifact import Artifact
    from ..engine.network import Network

Ranges = Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True)
class BuildOptions:
    """What is built otherwise than a recipe says. `only` are names of networks; no `backends`: the stages' own.

    A range is that of a dimension of all networks that have it, or of one: NETWORK.DIMENSION.
    """

    only: tuple[str, ...] = ()
    ranges: Ranges = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()


@dataclass(frozen=True)
class NetworkReport:
    """What became of one network of a stage, with the reason.

    `built`, `found`, `failed`, `verified`, `differs`, `missing`, `eager` (it has no engine), or `left out`.
    """

    stage: str
    network: str
    backend: str
    precision: str
    state: str
    reason: str = ""
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
            return f"{head} {self.backend} {self.precision}, {self.state}: {self.reason}"
        parity = "not executed here" if self.worst is None else f"error {self.worst:.1e} at most"
        took = f"built in {self.seconds:.1f} s" if self.state == "built" else self.state
        return f"{head} {self.backend} {self.precision}, {took}, {self.bytes / 1e6:.1f} MB, {parity}"


def build_missing(recipe: BaseRecipe, names: Collection[str], progress: Progress) -> None:
    """Build what the stages of these names miss, where their settings say so (`engine.missing`).

    Raises PrefmillError with the first engine that cannot be built, and how to do without it.
    """
    for model in engine_models(recipe, names):
        for report in build_stage(model) if model.engine.missing == "build" else ():
            if report.state == "failed":
                stage = model.setting.partition(".")[0]
                raise PrefmillError(report.text, f"--set engine.stages.{stage}.backend=eager, or engine.missing=eager")
            if report.state == "built":
                progress.line(report.text)


def build_stage(model: StageModel, options: BuildOptions = BuildOptions()) -> Iterator[NetworkReport]:
    """Build and verify the engines that a stage misses; a network is traced once for all backends that take it so.

    One that fails is reported, and the others are built. Raises PrefmillError as `compile.build.check_build` does.
    """
    models = [model.under(backend) for backend in options.backends or (model.engine.backend,)]
    for one in models:
        one.check(options.targets)
    for network, group, digests in _networks(models):
        if network.name in (options.only or (network.name,)):
            yield from _build(network, group, options, digests)
        else:
            yield _report(group[0], network, "left out")


def verify_stage(
    model: StageModel, only: Collection[str] = (), backends: Sequence[str] = ()
) -> Iterator[NetworkReport]:
    """Compare a stage's engines with its networks again, whatever their state: `verified`, `differs` or `missing`."""
    from ..compile.build import verify_engine
    from ..engine.artifact import artifacts_in, digest_once, identity_of
    from ..engine.device import device_target

    for network, group, digests in _networks([model.under(one) for one in backends or (model.engine.backend,)]):
        for one in group:
            if network.eager_only or network.name not in (only or (network.name,)):
                yield _report(one, network, "eager" if network.eager_only else "left out", network.eager_only)
                continue
            root, target = one.engine.artifacts_folder, device_target(one.device)
            weights = digest_once(network.module, digests)
            identity = identity_of(network, one.engine.backend, one.precision, weights=weights)
            fitting = [
                (folder, artifact)
                for folder, artifact in artifacts_in(root)
                if artifact.identity == identity and target in artifact.targets
            ]
            if not fitting:
                yield _report(one, network, "missing", f"none fits in {root}")
            for folder, artifact in fitting:
                try:
                    checked = verify_engine(network, folder, artifact, one.device)
                    yield _report(one, network, "verified", found=(folder, checked))
                except PrefmillError as error:
                    yield _report(one, network, "differs", error.message, found=(folder, artifact))


def _networks(models: Sequence[StageModel]) -> Iterator[tuple[Network, list[StageModel], dict[int, str]]]:
    """Each network of a stage with the backends that take its weights as they are loaded, and digests of those."""
    groups: dict[str, list[StageModel]] = {}
    for model in models:
        groups.setdefault(model.weights_dtype, []).append(model)
    for group in groups.values():
        digests: dict[int, str] = {}
        for network in group[0].networks():
            yield network, group, digests
        gc.collect()  # modules refer to themselves in circles, and the next model needs the memory


def ranges_for(network: Network, given: Ranges) -> dict[str, tuple[int, int, int]]:
    """The given ranges of a network's dimensions."""
    named = {name: given.get(f"{network.name}.{name}", given.get(name)) for name in network.dimensions}
    return {name: entry for name, entry in named.items() if entry is not None}


def _build(
    network: Network, group: Sequence[StageModel], options: BuildOptions, digests: dict[int, str]
) -> Iterator[NetworkReport]:
    from ..compile.build import build_engine
    from ..compile.export import export_program
    from ..engine.artifact import check_ranges, digest_once, find_artifact, identity_of, ranges_of

    if network.eager_only:
        yield _report(group[0], network, "eager", network.eager_only)
        return
    ranges = ranges_for(network, options.ranges)
    check_ranges(network, ranges)
    wanted = {**ranges_of(network), **ranges}
    program = None
    for model in group:
        backend, precision = model.engine.backend, model.precision
        root, device = model.engine.artifacts_folder, model.device
        identity = identity_of(network, backend, precision, weights=digest_once(network.module, digests))
        began, now = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
        try:
            if options.targets:
                raise LookupError("what runs elsewhere is not found by what runs here")
            found, state = find_artifact(root, identity, device, wanted if ranges else None), "found"
        except LookupError:
            try:
                program = program or export_program(network, wanted)
                found = build_engine(
                    *(network, backend, precision, device, root),
                    ranges=ranges,
                    targets=options.targets,
                    program=program,
                    identity=identity,
                )
            except PrefmillError as error:
                yield _report(model, network, "failed", error.message)
                continue
            state = "built" if found[1].created >= now else "found"  # by another process, or for elsewhere
        yield _report(model, network, state, found=found, seconds=time.monotonic() - began)


def _report(
    model: StageModel,
    network: Network,
    state: str,
    reason: str = "",
    *,
    found: tuple[Path, Artifact] | None = None,
    seconds: float = 0.0,
) -> NetworkReport:
    return NetworkReport(
        *(model.name, network.name, model.engine.backend, model.precision, state, reason),
        dimensions=tuple(network.dimensions),
        folder=str(found[0]) if found else "",
        seconds=round(seconds, 2),
        bytes=found[1].size if found else 0,
        worst=max((row.maximum_relative_error for row in found[1].parity), default=None) if found else None,
    )
