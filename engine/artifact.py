"""Engines on disk: what an artifact was built from and for, and the search for the one that fits a network here.

An artifact is a folder, NETWORK-KEY, that appears whole or not at all. Its manifest says what it depends on (weights,
graph, precision, backend, versions, device), what it was built for (ranges), and how it compared with the eager
network (parity). One that was built and never compared is not loaded; nor is one for other weights, another version or
another device.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError

from ..base.errors import PrefmillError
from ..base.files import reason_of, sha256_of, write_text
from ..base.settings import Settings
from ..base.versions import installed_version
from .device import device_target
from .network import Dimension, Network

MANIFEST = "manifest.json"
_GRAPH_SOURCES = ("networks", "sd3", "responders", "scorers")
_GRAPH_PACKAGES = ("torch", "transformers", "diffusers")


class Identity(Settings):
    """What an engine computes: nothing else may load it."""

    network: str
    specification: str
    """Names, axes and types."""
    source: str
    """The code that the graph was traced from."""
    weights: str
    """Names, shapes and values, an adapter merged in."""
    precision: str
    calibration: str = ""
    """What the ranges of eight-bit values were measured on; empty where there are none."""
    backend: str
    versions: dict[str, str]


class FileEntry(Settings):
    """One file of an artifact."""

    bytes: int
    sha256: str


class ParityRow(Settings):
    """One comparison with the eager network, at these sizes of the dimensions."""

    sizes: dict[str, int]
    output: str
    maximum_relative_error: float
    """The largest difference over the largest value."""
    mean_relative_error: float
    """The same of the means."""
    not_finite: int = 0
    """How many values of the engine's are no numbers; the errors are those of the others."""
    rank_agreement: float | None = None
    """Of scores: the share of pairs that stand in the same order."""
    reference_error: float | None = None
    """In half a precision: the maximum error of eager execution in it, on the same inputs."""
    reference_agreement: float | None = None
    """And its rank agreement."""


class Artifact(Settings):
    """The manifest of one engine."""

    identity: Identity
    targets: tuple[str, ...]
    """The devices it runs on."""
    ranges: dict[str, tuple[int, int, int]]
    """Minimum, optimum and maximum of every dimension."""
    flags: dict[str, Any] = Field(default={})
    files: dict[str, FileEntry]
    state: Literal["built", "verified"] = "built"
    parity: tuple[ParityRow, ...] = ()
    executed_on: str = "not executed"
    """The device of the comparison."""
    refittable: bool = False
    build_seconds: float
    peak_bytes: int | None = None
    """The memory that the build took on top of what the process held before; None where the system does not tell."""
    created: str
    notes: dict[str, Any] = Field(default={})

    @property
    def key(self) -> str:
        """A digest of everything that the engine depends on."""
        parts = [self.identity.model_dump(), self.targets, self.ranges, self.flags]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def folder_name(self) -> str:
        """NETWORK-KEY."""
        return f"{self.identity.network}-{self.key}"

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(entry.bytes for entry in self.files.values())


def identity_of(
    network: Network, backend: str, precision: str, calibration: str = "", weights: str | None = None
) -> Identity:
    """What an engine of a network computes, of its present weights, with the versions that are installed here.

    `weights` is their digest, where a caller has just made it for another network of the same module.
    """
    return Identity(
        network=network.name,
        specification=network.specification,
        source=source_digest(),
        weights=weights or weights_digest(network.module),
        precision=precision,
        calibration=calibration,
        backend=backend,
        versions=versions_for(backend),
    )


BACKEND_PACKAGES: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt-rtx",),
}
"""The packages whose exact version an engine needs, beside those that trace it."""


def weights_digest(module: torch.nn.Module) -> str:
    """A digest of all weights and buffers: names, types, shapes and bytes."""
    state = sorted(module.state_dict().items())
    with ThreadPoolExecutor(4) as pool:  # hashing lets other threads run
        digests = list(pool.map(lambda entry: _tensor_digest(entry[1]), state))
    whole = hashlib.sha256()
    for (name, tensor), digest in zip(state, digests, strict=True):
        whole.update(f"{name} {tensor.dtype} {list(tensor.shape)} {digest}\n".encode())
    return whole.hexdigest()[:16]


def digest_once(module: torch.nn.Module, known: dict[int, str]) -> str:
    """`weights_digest`, or what `known` holds of the module.

    For a caller that goes through several networks of one module, and changes no weight between them. Nothing longer
    lived may remember a digest: weights that are changed in place give no sign of it.
    """
    if id(module) not in known:
        known[id(module)] = weights_digest(module)
    return known[id(module)]


def _tensor_digest(tensor: torch.Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().flatten()
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()


@cache
def source_digest() -> str:
    """A digest of the files of ours that say what networks compute."""
    engine = Path(__file__).parent
    kernels = engine.parent / "kernels"
    roots = [*(engine / name for name in _GRAPH_SOURCES), kernels / "guided_step", kernels / "reward_head"]
    digest = hashlib.sha256()
    for path in sorted(path for root in roots for path in root.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def versions_for(backend: str) -> dict[str, str]:
    """The versions here of the packages that an engine of a backend needs; "not installed" where there is none."""
    packages = (*_GRAPH_PACKAGES, *BACKEND_PACKAGES.get(backend, ()))
    return {package: installed_version(package) or "not installed" for package in packages}


def ranges_of(network: Network) -> dict[str, tuple[int, int, int]]:
    """The ranges that a network declares."""
    return {name: (one.minimum, one.optimum, one.maximum) for name, one in network.dimensions.items()}


def artifacts_in(root: Path) -> Iterator[tuple[Path, Artifact]]:
    """Every artifact with a manifest that can be read, in the order of their names; the others are passed over."""
    for path in sorted(root.glob(f"[!.]*/{MANIFEST}")):
        try:
            yield path.parent, Artifact.model_validate_json(path.read_bytes())
        except (ValidationError, OSError):
            continue


def write_manifest(folder: Path, artifact: Artifact) -> None:
    """Replace the manifest of an artifact. Raises PrefmillError when the file system refuses."""
    write_text(folder / MANIFEST, artifact.model_dump_json(indent=1) + "\n")


def find_artifact(
    root: Path, identity: Identity, device: torch.device, ranges: Mapping[str, tuple[int, int, int]] | None = None
) -> tuple[Path, Artifact]:
    """The engine that computes this on this device, with the widest ranges; of `ranges`, where they are given.

    Its files have the bytes that were written. Raises LookupError that says what stands in the way where there is none.
    """
    reasons: list[str] = []
    fitting: list[tuple[Path, Artifact]] = []
    for folder, artifact in artifacts_in(root):
        if artifact.identity.network != identity.network or artifact.identity.backend != identity.backend:
            continue
        reason = mismatch(artifact, identity, device_target(device))
        if reason:
            reasons.append(f"{folder.name} {reason}")
        elif ranges is None or artifact.ranges == ranges:
            fitting.append((folder, artifact))
    for folder, artifact in sorted(fitting, key=lambda found: (_width(found[1]), found[1].created), reverse=True):
        damaged = damage(folder, artifact)
        if not damaged:
            return folder, artifact
        reasons.append(f"{folder.name} is damaged: {damaged}")
    raise LookupError("; ".join(reasons) or f"none was built in {root}")


def _width(artifact: Artifact) -> float:
    width = 1.0
    for smallest, _, largest in artifact.ranges.values():
        width *= largest - smallest + 1
    return width


def mismatch(artifact: Artifact, wanted: Identity, target: str) -> str:
    """Why an artifact cannot be taken; empty where it can."""
    for name, value in wanted.model_dump().items():
        if name == "calibration" and not value:
            continue  # any will do: who asks for an engine does not calibrate
        found = getattr(artifact.identity, name)
        if found != value:
            if isinstance(value, dict):
                other = [f"{key} {found.get(key)}, here {one}" for key, one in value.items() if found.get(key) != one]
                return f"is for {', '.join(other) or 'other versions'}"
            return f"has another {name} ({found}, here {value})"
    if target not in artifact.targets:
        return f"is for {', '.join(artifact.targets)}, here is {target}"
    return "" if artifact.state == "verified" else "was built and not verified"


def damage(folder: Path, artifact: Artifact) -> str:
    """What is wrong with an artifact's files: one that is missing, or has other bytes than were written."""
    for name, entry in artifact.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != entry.bytes:
                return f"{name} has {size} bytes of {entry.bytes}"
            if sha256_of(path) != entry.sha256:
                return f"{name} has changed"
        except OSError as error:
            return f"{name} cannot be read: {reason_of(error)}"
    return ""


def check_files(folder: Path, artifact: Artifact) -> None:
    """Raise PrefmillError for an artifact with a file that is missing or has other bytes than were written."""
    if found := damage(folder, artifact):
        raise PrefmillError(f"the engine {folder} is damaged: {found}.", "prefmill compile build makes it again")


def check_ranges(network: Network, ranges: Mapping[str, tuple[int, int, int]]) -> None:
    """Raise PrefmillError for a range of a dimension that the network has not, or that is none."""
    dimensions = network.dimensions
    for name, (smallest, optimum, largest) in ranges.items():
        dimension: Dimension | None = dimensions.get(name)
        if dimension is None:
            raise PrefmillError(
                f"{network.name} has no dimension {name!r}.", f"choose one of {', '.join(dimensions) or 'none'}"
            )
        if not 0 < smallest <= optimum <= largest or any(
            size % dimension.multiple for size in (smallest, optimum, largest)
        ):
            raise PrefmillError(
                f"{name}={smallest}:{optimum}:{largest} is no range of {network.name}.",
                f"give minimum:optimum:maximum, ascending multiples of {dimension.multiple}",
            )
