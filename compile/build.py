"""Build an engine and verify it: the folder appears whole, and is `verified` only after it ran and agreed.

Two processes that want the same engine: the second waits and takes what the first has built.
"""

import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from ..base.errors import PrefmillError
from ..base.files import TEMPORARY, make_folder, remove, remove_leftovers, sha256_of, sync
from ..base.locks import exclusive
from ..engine.artifact import (
    Artifact,
    FileEntry,
    artifacts_in,
    check_files,
    check_ranges,
    find_artifact,
    identity_of,
    ranges_of,
    write_manifest,
)
from ..engine.backends.catalogue import load_engine, require_backend
from ..engine.device import device_target, hardware_description
from ..engine.network import Network
from .builders.builder import BuildRequest
from .builders.catalogue import builder_of
from .export import Ranges, export_program
from .quantize.calibration import Calibration
from .quantize.linear import EIGHT_BIT, eight_bit_network
from .verify import compare, within_limits


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
    calibration: Calibration | None = None,
) -> tuple[Path, Artifact]:
    """The engine of a network's present weights: the one that is there, or a new one, verified where it can run here.

    `ranges` changes those that the network declares; `targets` names devices that are not here, where the backend
    builds for such: the engine is built then, and not executed. `program` saves tracing it again, and `calibration`
    has what int8 and fp8 need to be told. Raises PrefmillError for a backend that is not installed, a precision that
    it has not, a graph that it does not take, and an engine that does not agree with the network.
    """
    builder = builder_of(backend)
    here = device_target(device)
    if not builder.cross and set(targets) - {here}:
        raise PrefmillError(
            f"{backend} builds for the device that it builds on, {here}, not for {', '.join(targets)}.",
            "build there, or choose tensorrt_rtx",
        )
    if precision not in builder.precisions:
        raise PrefmillError(
            f"{backend} does not compute in {precision}.", f"--set engine.dtype={' or '.join(builder.precisions)}"
        )
    if precision in EIGHT_BIT and (calibration is None or network.kept_precise is None):
        missing = "no calibration" if network.kept_precise is not None else "no layers for it"
        raise PrefmillError(
            f"{network.name} has {missing}, and cannot be built in {precision}.",
            "give the prompts to calibrate on: --prompts FILE; or build it in bfloat16 or float32",
        )
    require_backend(backend)
    builder.check(precision, device)
    check_ranges(network, ranges or {})
    wanted = {**ranges_of(network), **(ranges or {})}
    quantized = calibration if precision in EIGHT_BIT else None
    identity = identity_of(network, backend, precision, quantized.digest if quantized else "")
    draft = Artifact(
        identity=identity, targets=targets or (here,), ranges=wanted, flags=builder.flags, files={},
        refittable=builder.refittable, build_seconds=0.0, peak_bytes=0, created="",
    )  # fmt: skip

    def write(folder: Path) -> dict[str, Any]:
        source = eight_bit_network(network, quantized, precision) if quantized else network
        traced = program or export_program(source, wanted)
        return builder.write(BuildRequest(source, traced, wanted, precision, device, draft.targets, folder))

    return place_engine(network, draft, device, root, write)


def place_engine(
    network: Network, draft: Artifact, device: torch.device, root: Path, write: Callable[[Path], dict[str, Any]]
) -> tuple[Path, Artifact]:
    """The engine that a draft of its manifest names: the one that is there, or what `write` puts into a folder.

    `write` returns notes for the manifest. Raises PrefmillError where the file system refuses, and ParityError.
    """
    make_folder(root)
    with exclusive(root / f".{draft.folder_name}.lock"):
        folder = root / draft.folder_name
        try:
            return find_artifact(root, draft.identity, device, draft.ranges)
        except LookupError:
            pass
        if here not in draft.targets and (kept := _built_before(folder)):
            return folder, kept
        began = time.monotonic()
        temporary = root / f"{TEMPORARY}{draft.folder_name}"
        remove_leftovers(root) if temporary.exists() else None
        try:
            temporary.mkdir()
            notes = write(temporary)
            artifact = draft.model_copy(
                update={
                    "files": _entries(temporary),
                    "build_seconds": round(time.monotonic() - began, 2),
                    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                    "created": datetime.now(UTC).isoformat(timespec="seconds"),
                    "notes": notes | ({"calibration": dict(quantized.source)} if quantized else {}),
                }
            )
            write_manifest(temporary, artifact)
            sync(temporary)
            remove(folder)
            temporary.replace(folder)
        except OSError as error:
            raise PrefmillError(
                f"cannot write the engine {folder}: {error.strerror or error}",
                "make room, or choose another folder with --set engine.artifacts=FOLDER",
            ) from error
        finally:
            remove(temporary)
        if here not in draft.targets:
            return folder, artifact  # nothing here can run it
        return folder, verify_engine(network, folder, artifact, device)


class ParityError(PrefmillError):
    """An engine that does not compute what its network does."""


def verify_engine(network: Network, folder: Path, artifact: Artifact, device: torch.device) -> Artifact:
    """Run an engine against the eager network, and write what was found into its manifest.

    Raises ParityError where they do not agree; the engine stays `built`, and is not loaded.
    """
    rows = compare(network, load_engine(network, folder, artifact, device), artifact.ranges)
    agrees = within_limits(rows, artifact.identity.precision)
    hardware = hardware_description()
    checked = artifact.model_copy(
        update={
            "parity": rows,
            "state": "verified" if agrees else "built",
            "executed_on": hardware.get("gpu", hardware["cpu"]) if device.type == "cuda" else hardware["cpu"],
        }
    )
    write_manifest(folder, checked)
    if not agrees:
        worst = max(rows, key=lambda row: (row.not_finite, row.maximum_relative_error))
        raise ParityError(
            f"the engine {folder.name} differs from the network by {worst.maximum_relative_error:.2g} of the largest "
            f"{worst.output} at {worst.sizes}, and {worst.not_finite} values are no numbers.",
            "build it in float32 (--set engine.dtype=float32), or with another backend",
        )
    return checked


def _built_before(folder: Path) -> Artifact | None:
    """The engine of a folder, whole: its name says what it was built from and for."""
    for path, artifact in artifacts_in(folder.parent):
        if path == folder:
            check_files(folder, artifact)
            return artifact
    return None


def _entries(folder: Path) -> dict[str, FileEntry]:
    return {
        path.name: FileEntry(bytes=path.stat().st_size, sha256=sha256_of(path))
        for path in sorted(folder.iterdir())
        if path.is_file()
    }
