"""Build an engine and verify it: the folder appears whole, and is `verified` only after it ran and agreed.

Two processes that want the same engine: the second waits and takes what the first has built. What an interrupted
build left half written is written over; one that was written and not yet verified is verified, not built again.
"""

import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch.export import ExportedProgram

from ..base.errors import PrefmillError
from ..base.files import TEMPORARY, make_folder, reason_of, remove, sha256_of, sync
from ..base.locks import exclusive
from ..engine.artifact import (
    MANIFEST,
    Artifact,
    FileEntry,
    Identity,
    check_files,
    check_ranges,
    damage,
    find_artifact,
    identity_of,
    ranges_of,
    write_manifest,
)
from ..engine.backends.catalogue import load_engine, require_backend
from ..engine.device import device_target, hardware_description
from ..engine.network import Network
from .builders.builder import Builder, BuildRequest
from .builders.catalogue import builder_of
from .export import Ranges, export_program
from .memory import PeakMemory
from .quantize.calibration import Calibration
from .quantize.linear import EIGHT_BIT, eight_bit_network
from .quantize.samples import load_samples, save_samples
from .verify import compare, outside_limits


def lock_of(root: Path, name: str) -> Path:
    """The lock that whoever writes the artifact of this name holds."""
    return root / f".{name}.lock"


def check_build(backend: str, precision: str, targets: tuple[str, ...], device: torch.device) -> Builder:
    """The builder of a backend, where it can build this here.

    Raises PrefmillError for a backend that runs no engines or is not installed, a precision that it has not, and
    devices that are not here where it builds for none such.
    """
    builder = builder_of(backend)
    if precision not in builder.precisions:
        raise PrefmillError(
            f"{backend} does not compute in {precision}.", f"--set engine.dtype={' or '.join(builder.precisions)}"
        )
    elsewhere = [target for target in targets if target != device_target(device)]
    if elsewhere and not builder.cross:
        raise PrefmillError(
            f"{backend} builds for the device that is here, not for {', '.join(elsewhere)}.", "build it there"
        )
    require_backend(backend)
    builder.check(precision, device)
    return builder


def build_engine(
    network: Network,
    backend: str,
    precision: str,
    device: torch.device,
    root: Path,
    *,
    ranges: Ranges | None = None,
    targets: tuple[str, ...] = (),
    program: ExportedProgram | None = None,
    identity: Identity | None = None,
    calibration: Calibration | None = None,
) -> tuple[Path, Artifact]:
    """The engine of a network's present weights: the one that is there, or a new one, verified where it can run here.

    `ranges` changes those that the network declares; `targets` names devices that are not here, where the backend
    builds for such; `program` saves tracing it again, and `identity` hashing its weights; `calibration` has what int8
    and fp8 need to be told. Raises PrefmillError as `check_build` does, for a graph that the backend does not take, an
    engine that does not agree with the network, and where the file system refuses.
    """
    builder = check_build(backend, precision, targets, device)
    if precision in EIGHT_BIT and (calibration is None or network.kept_precise is None):
        missing = "no calibration" if network.kept_precise is not None else "no layers for it"
        raise PrefmillError(
            f"{network.name} has {missing}, and cannot be built in {precision}.",
            "calibrate it on prompts: prefmill compile build RECIPE --prompts FILE; or build in bfloat16 or float32",
        )
    quantized = calibration if precision in EIGHT_BIT else None
    check_ranges(network, ranges or {})
    wanted = {**ranges_of(network), **(ranges or {})}
    if identity is None or quantized is not None:
        identity = identity_of(network, backend, precision, quantized.digest if quantized else "")
    draft = Artifact(
        identity=identity, targets=targets or (device_target(device),),
        ranges=wanted, flags=builder.flags, files={}, refittable=builder.refittable, build_seconds=0.0, created="",
    )  # fmt: skip

    def write(folder: Path) -> dict[str, Any]:
        source = eight_bit_network(network, quantized, precision) if quantized else network
        traced = export_program(source, wanted) if program is None or quantized else program
        notes = builder.write(BuildRequest(source, traced, wanted, precision, device, draft.targets, folder))
        if quantized is None:
            return notes
        if quantized.samples:
            save_samples(folder, quantized.samples)
        return {**notes, "calibration": dict(quantized.source)}

    return place_engine(network, draft, device, root, write)


def place_engine(
    network: Network, draft: Artifact, device: torch.device, root: Path, write: Callable[[Path], dict[str, Any]]
) -> tuple[Path, Artifact]:
    """The engine that a draft of its manifest names: the one that is there, or what `write` puts into a folder.

    `write` returns notes for the manifest. Raises PrefmillError where the file system refuses, and ParityError.
    """
    with contextlib.suppress(LookupError):  # needs no lock, and no folder that can be written to
        return find_artifact(root, draft.identity, device, draft.ranges)
    make_folder(root)
    folder = root / draft.folder_name
    try:
        with exclusive(lock_of(root, folder.name)):
            with contextlib.suppress(LookupError):  # built while this process waited
                return find_artifact(root, draft.identity, device, draft.ranges)
            artifact = _kept(folder, draft) or _write(folder, draft, write)
            if device_target(device) not in draft.targets:
                return folder, artifact  # nothing here can run it
            return folder, verify_engine(network, folder, artifact, device)
    except OSError as error:
        raise PrefmillError(
            f"cannot write the engine {folder}: {reason_of(error)}",
            "make room, or choose another folder with --set engine.artifacts=FOLDER",
        ) from error


class ParityError(PrefmillError):
    """An engine that does not compute what its network does."""


def verify_engine(network: Network, folder: Path, artifact: Artifact, device: torch.device) -> Artifact:
    """Run an engine against the eager network, and write what was found into its manifest.

    Raises PrefmillError where it is damaged, and ParityError where they do not agree; it is then `built`, and is not
    loaded.
    """
    check_files(folder, artifact)
    rows = compare(network, load_engine(network, folder, artifact, device), artifact.ranges, load_samples(folder))
    wrong = outside_limits(rows, artifact.identity.precision)
    hardware = hardware_description()
    checked = artifact.model_copy(
        update={
            "parity": rows,
            "state": "built" if wrong else "verified",
            "executed_on": hardware.get("gpu", hardware["cpu"]) if device.type == "cuda" else hardware["cpu"],
        }
    )
    write_manifest(folder, checked)
    if wrong:
        worst = wrong[0]
        own = f" (eager execution by {worst.reference_error:.2g})" if worst.reference_error else ""
        raise ParityError(
            f"the engine {folder.name} differs from the network by {worst.maximum_relative_error:.2g}{own} of the "
            f"largest {worst.output} at {worst.sizes}, and {worst.not_finite} values are no numbers.",
            "build it in float32 (--set engine.dtype=float32), or with another backend",
        )
    return checked


def _kept(folder: Path, draft: Artifact) -> Artifact | None:
    """What an earlier build wrote under this name, if it is whole."""
    try:
        artifact = Artifact.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None
    return artifact if artifact.key == draft.key and not damage(folder, artifact) else None


def _write(folder: Path, draft: Artifact, write: Callable[[Path], dict[str, Any]]) -> Artifact:
    """Build into a folder that then takes its name at once. Whoever calls holds the lock."""
    temporary = folder.with_name(f"{TEMPORARY}{folder.name}")
    began, memory = time.monotonic(), PeakMemory()
    try:
        remove(temporary)
        temporary.mkdir()
        notes = write(temporary)
        artifact = draft.model_copy(
            update={
                "files": _entries(temporary),
                "build_seconds": round(time.monotonic() - began, 2),
                "peak_bytes": memory.taken,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "notes": notes,
            }
        )
        write_manifest(temporary, artifact)
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        remove(folder)
        temporary.replace(folder)
        sync(folder.parent)
        return artifact
    finally:
        with contextlib.suppress(OSError):
            remove(temporary)


def _entries(folder: Path) -> dict[str, FileEntry]:
    return {
        path.name: FileEntry(bytes=path.stat().st_size, sha256=sha256_of(path))
        for path in sorted(folder.iterdir())
        if path.is_file()
    }
