"""Random weights as a function of seed and parameter name, so that they do not change with the library's init."""

import zlib
from collections.abc import Sequence

import torch


def randomize(module: torch.nn.Module, seed: int, gains: dict[str, float] | None = None) -> None:
    """Fill all parameters: matrices keep the scale of their input, norms stay near one, biases near zero.

    `gains` multiplies the parameters whose name ends in a given suffix.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            stream = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
            noise = torch.randn(parameter.shape, generator=stream)
            if parameter.ndim >= 2:
                value = noise / (parameter.numel() / parameter.shape[0]) ** 0.5
            elif name.endswith(("weight", "logit_scale")):
                value = 1 + 0.1 * noise
            else:
                value = 0.1 * noise
            for suffix, gain in (gains or {}).items():
                if name.endswith(suffix):
                    value = value * gain
            parameter.copy_(value)


def speak_only(head: torch.nn.Linear, tokens: Sequence[int], stop_token: int, *, sharpness: float = 4.0) -> None:
    """Let a language head [V, D] say the given tokens and the stop token only.

    All other rows become zero, so that their logit is 0 where the best of `tokens` is far above. With unit-scale
    rows the most likely token would be barely ahead; `sharpness` spreads the logits.
    """
    allowed = torch.zeros(head.weight.shape[0], 1)
    allowed[[*tokens, stop_token]] = sharpness
    # One token among hundreds would stop a text once in hundreds of steps.
    allowed[stop_token] *= 1.25
    with torch.no_grad():
        head.weight.mul_(allowed)
