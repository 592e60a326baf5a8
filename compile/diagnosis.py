"""Where in a network an exporter stopped: the operation, and the path of the module that it stands in."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator

import torch
from torch.export import ExportedProgram

from ..engine.network import Network

_SHOWN_PLACES = 3
_SHOWN_CHARACTERS = 300
_OPERATION = re.compile(r"target=torch\.ops\.([\w.]+)|OpOverload\(op='([\w.]+)'")


def untraceable(error: BaseException, network: Network) -> str:
    """What could not be traced, by the frames of the error: the last module of the network, and what it called."""
    paths = {id(module): path for path, module in network.module.named_modules()}
    place, operation = "", ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        if isinstance(module, torch.nn.Module) and id(module) in paths:
            if frame.f_code.co_name in {"_wrapped_call_impl", "_call_impl"}:
                continue
            kind = type(module).__name__
            place = f"{paths[id(module)] or network.name} ({kind}.{frame.f_code.co_name}, line {line})"
            operation = ""
        called = frame.f_locals.get("func")
        if place and not operation and frame.f_code.co_name in {"__torch_function__", "__torch_dispatch__"}:
            operation = getattr(called, "__name__", "") or str(called)
    stopped = f"{operation or 'an operation'} in {place}" if place else operation
    return f"{stopped}: {_line(error)}" if stopped else _line(error)


def unconvertible(error: BaseException, program: ExportedProgram) -> str:
    """What has no form in another format, by the operations that the error and its causes name."""
    causes = list(_causes(error))
    for cause in reversed(causes):
        named = _OPERATION.search(str(cause))
        if named:
            operation = named[1] or named[2]
            places = places_of(operation, program)
            return f"there is none of {operation}, which stands in {places or 'no module'}"
    return _line(causes[-1])


def places_of(operation: str, program: ExportedProgram) -> str:
    """The modules whose graph nodes are of this operation, or are taken apart into it."""
    found = list(dict.fromkeys(_places(operation, program)))
    more = f" and {len(found) - _SHOWN_PLACES} more" if len(found) > _SHOWN_PLACES else ""
    return ", ".join(found[:_SHOWN_PLACES]) + more


def _places(operation: str, program: ExportedProgram) -> Iterator[str]:
    wanted = _name(operation)
    for node in program.graph.nodes:
        name = _name(str(node.target))
        # aten.special_bessel_j0 becomes prims.bessel_j0
        if node.op == "call_function" and (name == wanted or name.endswith(f"_{wanted}")):
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            if stack:
                path, kind = stack[-1]
                kind = kind if isinstance(kind, str) else kind.__qualname__
                yield f"{path.removeprefix('module').removeprefix('.') or 'the whole'} ({kind.rpartition('.')[2]})"


def _name(operation: str) -> str:
    """`linear` of aten.linear.default."""
    return [*operation.split("."), ""][1]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:_SHOWN_CHARACTERS] or type(error).__name__
