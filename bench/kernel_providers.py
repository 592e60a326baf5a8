"""Who computes what in the kernel benchmark: ours, the plain reference, the compiler, and the peers that are installed.

A provider is a function from an operation's inputs to its first output, differentiable as the operation is. A peer
that is not installed, or does not run on the device, is left out and named with the reason.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch

from ..kernels.operation import Op

Provider = Callable[..., torch.Tensor]
TRL_CHUNKS = {"trl": 32_768, "trl_chunk_1024": 1024}  # its trainer's own, and what suits a CPU's cache
PEERS = ("compile", "materialised", "trl", "torch_chunked", "liger", "cce")


def providers(op: Op, device: torch.device, peers: tuple[str, ...]) -> tuple[dict[str, Provider], dict[str, str]]:
    """Providers by name, and the reasons for those of `peers` that are missing."""
    found: dict[str, Provider] = {"ours": _first(op.public), "reference": _first(op.reference)}
    missing: dict[str, str] = {}
    if "compile" in peers:
        found["compile"] = _first(torch.compile(op.reference, dynamic=False))
    if op.name != "logprob":
        return found, missing
    builders = {
        "materialised": _materialised,
        "trl": _trl,
        "torch_chunked": _torch_chunked,
        "liger": _liger,
        "cce": _cce,
    }
    for peer, build in builders.items():
        if peer not in peers:
            continue
        try:
            found.update(build(device))
        except ImportError as error:
            missing[peer] = str(error)
    return found, missing


def _first(function: Callable[..., Any]) -> Provider:
    def provider(**inputs: Any) -> torch.Tensor:
        output = function(**inputs)
        if isinstance(output, list):  # of unlike shapes: joined so that all of it is compared
            return torch.cat([part.flatten() for part in output])
        return output if torch.is_tensor(output) else output[0]

    return provider


def _need(module: str, package: str, device: torch.device, kinds: tuple[str, ...] = ("cuda", "cpu")) -> None:
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"not installed: pip install {package}")
    if device.type not in kinds:
        raise ImportError(f"{package} does not run on {device.type}")


def _materialised(device: torch.device) -> dict[str, Provider]:
    """What trainers do that know no better: all logits in memory, in float32, and torch's own loss over them."""
    del device

    def run(hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        logits = torch.nn.functional.linear(hidden_ND, weight_VD).float()
        return -torch.nn.functional.cross_entropy(logits, targets_N, reduction="none")

    return {"materialised": run}


def _trl(device: torch.device) -> dict[str, Provider]:
    _need("trl", "trl", device)
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction

    def provider(chunk: int) -> Provider:
        def run(hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
            return ChunkedLogProbFunction.apply(hidden_ND, weight_VD, None, targets_N, 1.0, chunk, None, 1.0, ())[0]  # type: ignore[index]

        return run

    return {name: provider(chunk) for name, chunk in TRL_CHUNKS.items()}


def _torch_chunked(device: torch.device) -> dict[str, Provider]:
    del device
    options = getattr(torch.nn, "LinearCrossEntropyOptions", None)
    function = getattr(torch.nn.functional, "linear_cross_entropy", None)
    if options is None or function is None:
        raise ImportError(f"torch {torch.__version__} has no chunked linear_cross_entropy")

    def run(hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        return -function(hidden_ND, weight_VD, targets_N, reduction="none", options=options())

    return {"torch_chunked": run}


def _liger(device: torch.device) -> dict[str, Provider]:
    _need("liger_kernel", "liger-kernel", device, ("cuda",))
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss  # type: ignore[import-not-found]

    loss = LigerFusedLinearCrossEntropyLoss(reduction="none")

    def run(hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        return -loss(weight_VD, hidden_ND, targets_N)

    return {"liger": run}


def _cce(device: torch.device) -> dict[str, Provider]:
    _need("cut_cross_entropy", "cut-cross-entropy", device, ("cuda",))
    from cut_cross_entropy import linear_cross_entropy  # type: ignore[import-not-found]

    def run(hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        return -linear_cross_entropy(hidden_ND, weight_VD, targets_N, reduction="none")

    return {"cce": run}
