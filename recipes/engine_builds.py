"""Building the engines that a recipe's stages miss, one stage's model in memory at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from ..base.errors import PrefmillError
from ..base.progress import Progress
from .engines import StageModel, engine_models
from .generator_engines import calibrated
from .network_reports import NetworkReport, networks_of, report_on
from .recipe import BaseRecipe

if TYPE_CHECKING:
    from ..compile.quantize.calibration import Calibration
    from ..engine.network import Network

Ranges = Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True)
class BuildOptions:
    """What is built otherwise than a recipe says. `only` are names of networks; no `backends`: the stages' own.

    A range is that of a dimension of all networks that have it, or of one: NETWORK.DIMENSION.
    `prompts` are those that eight-bit engines are calibrated on.
    """

    only: tuple[str, ...] = ()
    ranges: Ranges = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()


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
    calibrate = lru_cache(1)(lambda stage: calibrated(model, stage, options.prompts))  # for all networks of it
    for network, group, digests, stage in networks_of(models):
        if network.name in (options.only or (network.name,)):
            yield from _build(network, group, options, digests, partial(calibrate, stage))
        else:
            yield report_on(group[0], network, "left out")


def ranges_for(network: Network, given: Ranges) -> dict[str, tuple[int, int, int]]:
    """The given ranges of a network's dimensions."""
    named = {name: given.get(f"{network.name}.{name}", given.get(name)) for name in network.dimensions}
    return {name: entry for name, entry in named.items() if entry is not None}


def _build(
    network: Network,
    group: Sequence[StageModel],
    options: BuildOptions,
    digests: dict[int, str],
    calibrate: Callable[[], Calibration],
) -> Iterator[NetworkReport]:
    from ..compile.build import build_engine
    from ..compile.export import export_program
    from ..engine.artifact import check_ranges, digest_once, find_artifact, identity_of, ranges_of
    from ..engine.settings import EIGHT_BIT

    if network.eager_only:
        yield report_on(group[0], network, "eager", network.eager_only)
        return
    ranges = ranges_for(network, options.ranges)
    check_ranges(network, ranges)
    wanted = {**ranges_of(network), **ranges}
    program = None
    for model in group:
        backend, precision = model.engine.backend, model.precision_of(network)
        eight_bit = precision in EIGHT_BIT
        root, device = model.engine.artifacts_folder, model.device
        identity = identity_of(network, backend, precision, weights=digest_once(network.module, digests))
        began, now = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
        try:
            if eight_bit and options.prompts:
                raise LookupError("another calibration is another engine")
            if options.targets:
                raise LookupError("what runs elsewhere is not found by what runs here")
            found, state = find_artifact(root, identity, device, wanted if ranges else None), "found"
        except LookupError:
            try:
                if not eight_bit:  # that of eight bits is another graph
                    program = program or export_program(network, wanted)
                found = build_engine(
                    *(network, backend, precision, device, root),
                    ranges=ranges,
                    targets=options.targets,
                    program=None if eight_bit else program,
                    identity=identity,
                    calibration=calibrate() if eight_bit and options.prompts else None,
                )
            except PrefmillError as error:
                yield report_on(model, network, "failed", error.message, fix=error.fix)
                continue
            state = "built" if found[1].created >= now else "found"  # by another process, or for elsewhere
        yield report_on(model, network, state, found=found, seconds=time.monotonic() - began)
