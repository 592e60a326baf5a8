"""Batches that do not fit, and weights that only visit."""

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.placement import visiting
from prefmill.engine.portions import Portions


@pytest.mark.parametrize(("fits", "calls", "size"), [(8, [8], None), (5, [8, 4, 4], 4), (1, [8, 4, 2] + [1] * 8, 1)])
def test_what_does_not_fit_is_computed_in_halves_and_stays_so(fits, calls, size):
    seen = []

    def compute(rows):
        seen.append(len(rows))
        if len(rows) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory.\nlong text")
        return [row * 10 for row in rows]

    portions = Portions()
    assert portions.run(range(8), compute) == [row * 10 for row in range(8)]
    assert (seen, portions.size) == (calls, size)
    seen.clear()
    assert portions.run(range(3), compute) == [0, 10, 20]
    assert seen == {None: [3], 4: [3], 1: [1, 1, 1]}[size]


def test_a_single_row_that_does_not_fit_stops_the_run():
    def compute(rows):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nlong text")

    with pytest.raises(PrefmillError, match=r"single row: CUDA out of memory\. Tried to allocate") as raised:
        Portions().run([1, 2], compute)
    assert "long text" not in str(raised.value)
    assert "generate.decode_batch=1" in raised.value.fix


def test_a_visit_leaves_the_very_tensors_that_were_there():
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3))
    module[2].weight = module[0].weight
    before = {name: tensor.data_ptr() for name, tensor in module.state_dict().items()}
    with visiting(module, torch.device("meta")):
        assert {tensor.device.type for tensor in module.state_dict().values()} == {"meta"}
        assert module[2].weight is module[0].weight
    assert {name: tensor.data_ptr() for name, tensor in module.state_dict().items()} == before
