"""An engine held against the eager network in float32, over a grid of sizes.

Engines of others were black at more than one image, or not finite away from the size they were tuned for. So the grid
has batches of one, two, an odd number, the optimum and the largest, and the other dimensions at their ends.

In half a precision eager execution is away from float32 as well, by more than the limit where guidance multiplies its
error by ten. So it is measured beside the engine, which may be away by half as much again.
"""

import copy
from collections.abc import Mapping, Sequence

import torch

from ..base.errors import PrefmillError
from ..engine.artifact import ParityRow
from ..engine.network import Network
from ..engine.runner import EagerRunner, Runner
from .quantize.samples import batch_of, sides_of

LIMITS = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 2e-3, "int8": 1e-1, "fp8": 1e-1}
"""The largest relative error by precision at which an engine counts as verified."""
_HALVES = ("bfloat16", "float16")
RANK_AGREEMENT = 0.99
MARGIN = 1.5
"""How many times the error of eager execution in its precision an engine may have, where that is above the limit."""
_ODD = 7
# Not `to`, which warns of every model of diffusers.
_CASTS = {
    torch.float32: torch.nn.Module.float,
    torch.bfloat16: torch.nn.Module.bfloat16,
    torch.float16: torch.nn.Module.half,
}


def grid(network: Network, ranges: Mapping[str, tuple[int, int, int]]) -> list[dict[str, int]]:
    """The sizes to compare at."""
    optimum = {name: one[1] for name, one in ranges.items()}
    points = []
    batch = network.batch
    if batch is not None:
        smallest, best, largest = ranges[batch.name]
        for rows in dict.fromkeys((1, 2, _ODD, best, largest)):
            if smallest <= rows <= largest:
                points.append({**optimum, batch.name: rows})
    for position in (0, 2):
        ends = {name: one[position] for name, one in ranges.items() if batch is None or name != batch.name}
        points.append({**optimum, **ends})
    return [dict(point) for point in dict.fromkeys(tuple(point.items()) for point in points)]


def compare(
    network: Network,
    runner: Runner,
    ranges: Mapping[str, tuple[int, int, int]],
    samples: Mapping[str, torch.Tensor] | None = None,
) -> tuple[ParityRow, ...]:
    """Run engine and eager network on the same inputs at every point of the grid.

    Inputs are made up, or, where `samples` of real ones are given, batches of those, which have one size otherwise.
    Raises PrefmillError for a batch that the device's memory does not hold.
    """
    truth = EagerRunner(_in(torch.float32, network))
    precision = runner.execution.precision
    half = EagerRunner(_in(getattr(torch, precision), network)) if precision in _HALVES else None
    if samples:
        ranges = {**ranges, **{name: (size, size, size) for name, size in sides_of(network, samples).items()}}
    rows = []
    for number, sizes in enumerate(grid(network, ranges)):
        if samples and network.batch:
            inputs = _cast(batch_of(network, samples, sizes[network.batch.name], number), network, runner.dtype)
        else:
            inputs = network.sample(sizes, runner.dtype, seed=number)
        with torch.inference_mode():
            try:
                found = runner.run({name: value.to(runner.device) for name, value in inputs.items()})
                wanted = _few_by_few(truth, {name: _as_float32(value) for name, value in inputs.items()})
                known = _few_by_few(half, _cast(inputs, network, half.dtype)) if half else {}
            except torch.OutOfMemoryError as error:
                raise PrefmillError(
                    f"the device's memory does not hold {network.name} at {sizes}.",
                    "build it for smaller batches: --range batch=1:4:8",
                ) from error
        rows += [parity(sizes, name, found[name], wanted[name], known.get(name)) for name in network.outputs]
    return tuple(rows)


def _few_by_few(runner: EagerRunner, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Eager execution, at most the declared optimum of rows at a time: only the engine must take the largest batch."""
    network, placed = runner.network, {name: value.to(runner.device) for name, value in inputs.items()}
    return network.run_in_parts(runner.run, placed, network.batch.optimum if network.batch else 1)


def parity(
    sizes: dict[str, int], name: str, found: torch.Tensor, wanted: torch.Tensor, reference: torch.Tensor | None = None
) -> ParityRow:
    """One output against the truth, beside a `reference` in the engine's own precision."""
    ours, theirs = found.double().cpu(), wanted.double().cpu()
    broken = ~ours.isfinite()
    difference, scale = (ours - theirs).abs().masked_fill(broken, 0.0), theirs.abs()
    own = None if reference is None else parity(sizes, name, reference, wanted)
    return ParityRow(
        sizes=sizes,
        output=name,
        maximum_relative_error=float(difference.max() / scale.max().clamp_min(1e-12)),
        mean_relative_error=float(difference.mean() / scale.mean().clamp_min(1e-12)),
        not_finite=int(broken.sum()),
        rank_agreement=_rank_agreement(ours, theirs) if theirs.ndim == 1 and len(theirs) > 1 else None,
        reference_error=own.maximum_relative_error if own else None,
        reference_agreement=own.rank_agreement if own else None,
    )


def outside_limits(rows: Sequence[ParityRow], precision: str) -> list[ParityRow]:
    """The comparisons that are not good enough for the precision, the worst first."""
    found = [row for row in rows if not _is_within(row, precision)]
    return sorted(found, key=lambda row: (row.not_finite, row.maximum_relative_error), reverse=True)


def _is_within(row: ParityRow, precision: str) -> bool:
    limit = max(LIMITS[precision], MARGIN * (row.reference_error or 0.0))
    ranks = min(RANK_AGREEMENT, 1.0 if row.reference_agreement is None else row.reference_agreement)
    in_order = row.rank_agreement is None or row.rank_agreement >= ranks
    return row.maximum_relative_error <= limit and in_order and not row.not_finite


def _rank_agreement(found: torch.Tensor, wanted: torch.Tensor) -> float:
    above = torch.triu_indices(len(found), len(found), 1)
    ours, theirs = ((values[above[0]] - values[above[1]]).sign() for values in (found, wanted))
    return float((ours == theirs).double().mean())


def _in(dtype: torch.dtype, network: Network) -> Network:
    if all(value.dtype == dtype for value in network.module.parameters()):
        return network
    module = _CASTS[dtype](copy.deepcopy(network.module))
    return Network(network.name, module, network.forward, network.inputs, network.outputs)


def _cast(inputs: Mapping[str, torch.Tensor], network: Network, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: value.to(network.inputs[name].dtype or dtype) for name, value in inputs.items()}


def _as_float32(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.is_floating_point() else value
