"""Which tensors of an engine are a network's weights: what a refit may replace, and what a compiler swallowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.export import ExportedProgram


class NotRefittable(Exception):
    """Why an engine cannot take other weights; it is built anew then."""


def swallowed_weights(program: ExportedProgram, names: Iterable[str]) -> list[str]:
    """Weights that a program reads and an engine does not hold by name: folded, merged, written as numbers."""
    signature = program.graph_signature
    weights = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    read = {weights[node.name] for node in program.graph.nodes if node.name in weights and node.users}
    return sorted((read & program.state_dict.keys()) - set(names))


def refuse_swallowed(notes: Mapping[str, Any]) -> None:
    """Raise NotRefittable unless an engine's notes say that it holds every weight by its name."""
    if "swallowed" not in notes:
        raise NotRefittable("it does not say which weights it holds")
    if notes["swallowed"]:
        raise NotRefittable(f"{len(notes['swallowed'])} weights are folded into it, {notes['swallowed'][0]} for one")


def replacement(weights: Mapping[str, torch.Tensor], name: str, shape: Iterable[int]) -> torch.Tensor | None:
    """The present value of what an engine holds under a name, on the CPU; None where it is no weight.

    Raises NotRefittable for a weight of another shape.
    """
    value = weights.get(name)
    if value is not None and list(value.shape) != list(shape):
        raise NotRefittable(f"{name} is {list(shape)} in it, and {list(value.shape)} now")
    return None if value is None else value.cpu().contiguous()
