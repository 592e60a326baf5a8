"""The Triton kernel of preference losses, in the interpreter, against the CPU path: every loss and term."""

import pytest
import torch
from prefmill.kernels.operation import Case
from prefmill.kernels.preference.formulas import LOSSES, SMOOTHED
from prefmill.kernels.preference.losses import OP, preference_loss, preference_loss_reference
from prefmill.kernels.triton_support import INTERPRETED

assert INTERPRETED
TERMS = [{}, {"image_weight": 0.7, "anchor_weight": 1.3, "anchor_margin": 0.2}]


@pytest.mark.parametrize("terms", TERMS, ids=["plain", "mdpo"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("dtype", "summed"), [(torch.float32, False), (torch.bfloat16, False), (torch.float32, True)])
def test_equals_the_reference(loss, terms, dtype, summed):
    options = {"loss": loss, **terms, "label_smoothing": 0.1 if loss in SMOOTHED else 0.0}
    given = OP.make(Case("interpreted", {"pairs": 3}, dtype, options), torch.device("cpu"))
    if summed:
        count = int(given["segments_N"][-1]) + 1
        given |= {"reference_N": None, "reference_S": torch.linspace(-250, -120, count)}
    found, names = [], ()
    for function in (preference_loss, preference_loss_reference):
        logps = given["logps_N"].clone().requires_grad_()
        result = function(**given | {"logps_N": logps})
        (result.loss * torch.tensor([1.0, -2.0, 0.5])).sum().backward()
        names = (*result._fields, "gradient")
        found.append([*(value.detach() for value in result), logps.grad.float()])
    for name, ours, expected in zip(names, *found, strict=True):
        rough = name == "gradient" and dtype == torch.bfloat16
        close, near = (2**-7, 1e-4) if rough else (3e-5, 2e-4)
        torch.testing.assert_close(ours, expected, rtol=close, atol=near, msg=lambda text, name=name: f"{name}: {text}")
