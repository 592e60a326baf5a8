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
class RefitRequest:
    """The engine in `source`, of the same graph, to be written into `folder` with the network's present weights."""

    network: Network
    source: Path
    folder: Path
    notes: dict[str, Any]
    """Of the engine in `source`."""


def unconditional(precision: str, device: torch.device) -> None:
    """Nothing stands in the way of a build."""


@dataclass(frozen=True)
class Builder:
    """How engines of one backend are built. `precisions` are what it can compute in.

    `write` and `refit` return what is worth noting in the manifest. `check` raises PrefmillError for what is missing on
    this machine, before a minute is spent. `refit` raises NotRefittable where an engine has to be built anew.
    `cross` says that it builds for devices that are not here.
    """

    write: Callable[[BuildRequest], dict[str, Any]]
    precisions: tuple[str, ...]
    flags: dict[str, Any] = field(default_factory=dict)
    check: Callable[[str, torch.device], None] = unconditional
    refit: Callable[[RefitRequest], dict[str, Any]] | None = None
    cross: bool = False

    @property
    def refittable(self) -> bool:
        """Whether engines of it can take other weights."""
        return self.refit is not None
