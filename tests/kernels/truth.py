"""How kernels are judged: against float64, by the error that the plain reference itself makes at that precision."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

Results = list[torch.Tensor]


def copies(inputs: dict[str, Any], dtype: torch.dtype | None = None) -> dict[str, Any]:
    """Copies of the inputs, every floating tensor in `dtype` where one is given."""
    return {
        name: value.detach().to(dtype or value.dtype, copy=True)
        if torch.is_tensor(value) and value.is_floating_point()
        else value
        for name, value in inputs.items()
    }


def results(function: Callable[..., Any], inputs: dict[str, Any], learned: Sequence[str]) -> Results:
    """The first output, and the gradients of a weighted sum of it, with unequal weights."""
    inputs = {name: value.requires_grad_() if name in learned else value for name, value in inputs.items()}
    output = function(**inputs)
    first = output if torch.is_tensor(output) else output[0]
    if not learned:
        return [first]
    weights = torch.linspace(-1.5, 2, first.numel(), dtype=first.dtype).view_as(first)
    gradients = torch.autograd.grad((first * weights).sum(), [inputs[name] for name in learned])
    return [first.detach(), *gradients]


def squared_errors(
    public: Callable[..., Any],
    reference: Callable[..., Any],
    inputs: dict[str, Any],
    learned: Sequence[str] = (),
) -> list[tuple[float, float]]:
    """Mean squared error of public and of reference, for the output and each gradient, against float64."""
    truth = results(reference, copies(inputs, torch.float64), learned)
    theirs = results(reference, copies(inputs), learned)
    ours = results(public, copies(inputs), learned)
    return [
        (float((mine.double() - exact).square().mean()), float((other.double() - exact).square().mean()))
        for mine, other, exact in zip(ours, theirs, truth, strict=True)
    ]
