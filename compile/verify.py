"""An engine held against the eager network in float32, over a grid of sizes.

Engines of others were black at more than one image, or not finite away from the size they were tuned for. So the grid
has batches of one, two, an odd number, the optimum and the largest, and the other dimensions at their ends.
"""

import copy
from collections.abc import Mapping

import torch

from ..engine.artifact import ParityRow
from ..engine.network import Network
from ..engine.runner import EagerRunner, Runner
from .quantize.samples import batch_of, sides_of

LIMITS = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 2e-3, "int8": 1e-1, "fp8": 1e-1}
"""The largest relative error by precision at which an engine counts as verified."""
RANK_AGREEMENT = 0.99
_ODD = 7


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
    """
    truth = EagerRunner(_in_float32(network))
    if samples:
        ranges = {**ranges, **{name: (size, size, size) for name, size in sides_of(network, samples).items()}}
    rows = []
    for number, sizes in enumerate(grid(network, ranges)):
        if samples and network.batch:
            inputs = _cast(batch_of(network, samples, sizes[network.batch.name], number), network, runner.dtype)
        else:
            inputs = network.sample(sizes, runner.dtype, seed=number)
        with torch.inference_mode():
            wanted = truth.run({name: _as_float32(value).to(truth.device) for name, value in inputs.items()})
            found = runner.run({name: value.to(runner.device) for name, value in inputs.items()})
        rows += [parity(sizes, name, found[name], wanted[name]) for name in network.outputs]
    return tuple(rows)


def parity(sizes: dict[str, int], name: str, found: torch.Tensor, wanted: torch.Tensor) -> ParityRow:
    """One output against the truth."""
    ours, theirs = found.double().cpu(), wanted.double().cpu()
    broken = ~ours.isfinite()
    difference, scale = (ours - theirs).abs().masked_fill(broken, 0.0), theirs.abs()
    largest = float(difference.max() / scale.max().clamp_min(1e-12))
    mean = float(difference.mean() / scale.mean().clamp_min(1e-12))
    agreement = _rank_agreement(ours, theirs) if theirs.ndim == 1 and len(theirs) > 1 else None
    return ParityRow(
        sizes=sizes,
        output=name,
        maximum_relative_error=largest,
        mean_relative_error=mean,
        not_finite=int(broken.sum()),
        rank_agreement=agreement,
    )


def within_limits(rows: tuple[ParityRow, ...], precision: str) -> bool:
    """Whether every comparison is good enough for the precision."""
    return all(
        row.maximum_relative_error <= LIMITS[precision]
        and not row.not_finite
        and (row.rank_agreement is None or row.rank_agreement >= RANK_AGREEMENT)
        for row in rows
    )


def _rank_agreement(found: torch.Tensor, wanted: torch.Tensor) -> float:
    above = torch.triu_indices(len(found), len(found), 1)
    ours, theirs = ((values[above[0]] - values[above[1]]).sign() for values in (found, wanted))
    return float((ours == theirs).double().mean())


def _in_float32(network: Network) -> Network:
    if all(value.dtype == torch.float32 for value in network.module.parameters()):
        return network
    module = copy.deepcopy(network.module).float()
    return Network(network.name, module, network.forward, network.inputs, network.outputs)


def _cast(inputs: Mapping[str, torch.Tensor], network: Network, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: value.to(network.inputs[name].dtype or dtype) for name, value in inputs.items()}


def _as_float32(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.is_floating_point() else value
