import math

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.compile.verify import LIMITS, compare, grid, outside_limits, parity
from prefmill.engine.network import Dimension, Input, Network
from prefmill.engine.runner import EagerRunner

BATCH = Dimension("batch", 1, 4, 16)
SIDE = Dimension("side", 2, 8, 12, 2)
RANGES = {"batch": (1, 4, 16), "side": (2, 8, 12)}


def network(dtype=torch.float32) -> Network:
    torch.manual_seed(0)
    inputs = {"pixels": Input((BATCH, SIDE, 3))}
    return Network(
        "toy", torch.nn.Linear(3, 2, dtype=dtype), lambda m, pixels: m(pixels).sum((1, 2)), inputs, ("sums",)
    )


def test_the_grid_has_every_kind_of_batch_and_both_ends_of_the_rest():
    points = grid(network(), RANGES)
    assert [point["batch"] for point in points if point["side"] == 8] == [1, 2, 7, 4, 16]
    assert [point for point in points if point["side"] != 8] == [{"batch": 4, "side": 2}, {"batch": 4, "side": 12}]
    assert [point["batch"] for point in grid(network(), {"batch": (2, 3, 3), "side": (8, 8, 8)})] == [2, 3]


def test_errors_are_relative_to_the_largest_value_and_ranks_are_counted():
    wanted = torch.tensor([1.0, -10.0, 2.0, 4.0])
    row = parity({"batch": 4}, "scores", torch.tensor([1.0, -10.5, 2.0, 1.5]), wanted)
    assert row.maximum_relative_error == pytest.approx(0.25)
    assert row.mean_relative_error == pytest.approx((0.5 + 2.5) / 4 / (17 / 4))
    assert row.rank_agreement == pytest.approx(5 / 6)  # 2 and 1.5 stand in the other order
    assert parity({}, "states", wanted[None], wanted[None]).rank_agreement is None


def test_a_value_that_is_no_number_is_wrong_whatever_the_others_are():
    row = parity({}, "scores", torch.tensor([1.0, math.nan]), torch.tensor([1.0, 2.0]))
    assert (row.not_finite, row.maximum_relative_error) == (1, 0.0)
    assert outside_limits((row,), "float32")


class Wrong(EagerRunner):
    """Right at every batch but the odd one."""

    def run(self, inputs):
        found = super().run(inputs)
        return {name: value * (1.1 if len(value) == 7 else 1.0) for name, value in found.items()}


def test_one_wrong_point_is_enough():
    declared = network()
    assert not outside_limits(compare(declared, EagerRunner(declared), RANGES), "float32")
    rows = compare(declared, Wrong(declared), RANGES)
    assert outside_limits(rows, "float32")
    assert [row.sizes["batch"] for row in rows if row.maximum_relative_error > 0.01] == [7]


def test_half_precision_is_held_against_the_same_weights_in_float32():
    declared = network(torch.bfloat16)
    rows = compare(declared, EagerRunner(declared), RANGES)
    worst = max(row.maximum_relative_error for row in rows)
    assert 1e-4 < worst < 2e-2
    assert not outside_limits(rows, "bfloat16")
    assert next(declared.module.parameters()).dtype == torch.bfloat16


def amplified(dtype=torch.bfloat16) -> Network:
    """Two nearly equal projections, and their difference times a thousand: guidance at its worst."""
    torch.manual_seed(0)
    module = torch.nn.Linear(64, 4, dtype=dtype)
    inputs = {"states": Input((BATCH, 64))}
    return Network("amplified", module, _difference, inputs, ("moved", "first"))


def _difference(module, states):
    first = module(states)
    moved = first + 1000 * (module(states * 1.001) - first)
    return moved, first[:, 0]


class Off(EagerRunner):
    """Further from float32 than eager execution, by a factor."""

    def __init__(self, network, factor):
        super().__init__(network)
        self.factor = factor

    def run(self, inputs):
        found = super().run(inputs)
        exact = _difference(self.network.module.float(), inputs["states"].float())
        self.network.module.bfloat16()
        return {
            name: (value + self.factor * (found[name].float() - value)).bfloat16()
            for name, value in zip(self.network.outputs, exact, strict=True)
        }


def test_where_eager_execution_misses_the_limit_too_an_engine_may_be_half_as_far_again():
    declared = amplified()
    rows = compare(declared, EagerRunner(declared), {"batch": (1, 4, 16)})
    assert max(row.maximum_relative_error for row in rows) > LIMITS["bfloat16"]
    assert all(row.reference_error == row.maximum_relative_error for row in rows)
    assert not outside_limits(rows, "bfloat16")
    assert not outside_limits(compare(declared, Off(declared, 1.3), {"batch": (1, 4, 16)}), "bfloat16")
    assert outside_limits(compare(declared, Off(declared, 2.0), {"batch": (1, 4, 16)}), "bfloat16")


def test_a_rank_that_eager_execution_confuses_may_be_confused():
    wanted = torch.tensor([1.0, 1.001, 2.0])
    swapped, sorted_ = torch.tensor([1.001, 1.0, 2.0]), torch.tensor([1.0, 1.001, 2.0])
    assert not outside_limits((parity({}, "scores", swapped, wanted, swapped),), "bfloat16")
    assert outside_limits((parity({}, "scores", swapped, wanted, sorted_),), "bfloat16")


def test_in_float32_there_is_nothing_to_excuse():
    declared = network()
    assert {row.reference_error for row in compare(declared, EagerRunner(declared), RANGES)} == {None}


def test_eager_execution_takes_few_rows_at_a_time_whatever_the_engine_takes():
    seen = []

    def watched(module, pixels):
        seen.append(len(pixels))
        return module(pixels).sum((1, 2))

    declared = network()
    declared = Network("watched", declared.module, watched, declared.inputs, declared.outputs)
    rows = compare(declared, EagerRunner(network()), {**RANGES, "batch": (1, 4, 30)})
    assert [row.sizes["batch"] for row in rows] == [1, 2, 7, 4, 30, 4, 4]
    assert max(seen) == BATCH.optimum
    assert not outside_limits(rows, "float32")


def test_a_batch_that_does_not_fit_is_said_with_what_to_build_instead():
    class Full(EagerRunner):
        def run(self, inputs):
            if len(inputs["pixels"]) > 7:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return super().run(inputs)

    with pytest.raises(PrefmillError, match=r"memory does not hold toy at \{'batch': 16, 'side': 8\}") as caught:
        compare(network(), Full(network()), RANGES)
    assert "--range batch=1:4:8" in caught.value.fix
