"""What holds for every operation: both implementations run on every case's kind, and agree."""

from dataclasses import replace

import pytest
import torch
from prefmill.kernels.catalogue import OPS

SMALL = {"N": 9, "D": 64, "V": 700, "H": 32, "B": 2, "S": 8, "G": 5, "H_W": 40}


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_public_equals_reference_on_every_case(op):
    for case in (*op.cases, *op.gpu_cases):
        sizes = {name: min(size, SMALL.get(name, 40)) for name, size in case.sizes.items()}
        given = op.make(replace(case, sizes=sizes), torch.device("cpu"))
        ours, expected = op.public(**given), op.reference(**given)
        for mine, theirs in zip(*((one,) if torch.is_tensor(one) else one for one in (ours, expected)), strict=True):
            torch.testing.assert_close(mine, theirs, atol=3e-4, rtol=1e-4, equal_nan=True)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_declaration_is_complete(op):
    assert op.builds
    assert op.cases
    assert op.gpu_cases
    assert len({str(case) for case in op.cases}) == len(op.cases)
    for case in (*op.cases, *op.gpu_cases):
        assert op.traffic(case, "forward") > 0
        assert op.flops(case, "both") >= op.flops(case, "forward") >= 0
        if op.differentiable:
            assert op.traffic(case, "both") > op.traffic(case, "forward")


def test_names_are_unique():
    assert len({op.name for op in OPS}) == len(OPS)
    names = [build.name for op in OPS for build in op.builds]
    assert len(set(names)) == len(names)
