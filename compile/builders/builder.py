"""What a builder of engines is: a function that writes an engine of an exported program into a folder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from ...engine.network import Network
from ..export import Ranges


@dataclass(frozen=True)
class BuildRequest:
    """One engine to build: the network, traced, for these ranges, in this precision, for these devices."""

    network: Network
    program: ExportedProgram
    ranges: Ranges
    precision: str
    device: torch.device
    targets: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class Builder:
    """How engines of one backend are built. `precisions` are what it can compute in.

    `write` returns what is worth noting in the manifest. `cross` says that it builds for devices that are not here.
    """

    write: Callable[[BuildRequest], dict[str, Any]]
    precisions: tuple[str, ...]
    flags: dict[str, Any] = field(default_factory=dict)
    refittable: bool = False
    cross: bool = False
