"""An engine for changed weights from one that is there: nothing is traced or compiled, where the backend allows it.

Every weight is written from the network's present state, which is base and adapter merged, and never on top of what an
engine held before: after A and B, A is A again, bit for bit. The engine that it is made from stays as it is.
"""

from pathlib import Path

import torch

from ..base.errors import PrefmillError
from ..base.files import remove
from ..engine.artifact import Artifact, check_files, identity_of, write_manifest
from ..engine.backends.catalogue import require_backend
from ..engine.network import Network
from .build import ParityError, build_engine, place_engine
from .builders.builder import RefitRequest
from .builders.catalogue import builder_of
from .weights import NotRefittable


def refit_engine(
    network: Network, folder: Path, artifact: Artifact, device: torch.device, root: Path
) -> tuple[Path, Artifact]:
    """A verified engine of the network's present weights, from the engine in `folder`, of the same graph.

    Where that cannot be changed, or the changed one does not agree with the network, another is built, for the same
    ranges; `notes["refit"]` of the manifest says which. Raises PrefmillError for an engine of another graph, precision
    or version, a damaged one, and whatever stops a build.
    """
    found = artifact.identity
    wanted = identity_of(network, found.backend, found.precision, found.calibration)
    if wanted == found:
        return folder, artifact
    others = [name for name, value in wanted.model_dump().items() if getattr(found, name) != value]
    if others != ["weights"]:
        differing = [name for name in others if name != "weights"]
        raise PrefmillError(
            f"the engine {folder.name} is of another {' and '.join(differing)} than {network.name} here.",
            f"build it anew: prefmill compile build RECIPE --set engine.backend={found.backend}",
        )
    require_backend(found.backend)
    check_files(folder, artifact)
    builder = builder_of(found.backend)
    draft = artifact.model_copy(
        update={"identity": wanted, "state": "built", "parity": (), "executed_on": "not executed", "files": {}}
    )
    try:
        if builder.refit is None:
            raise NotRefittable(f"{found.backend} engines take no other weights")
        refit = builder.refit

        def write(target: Path) -> dict[str, object]:
            notes = refit(RefitRequest(network, folder, target, artifact.notes))
            return {**notes, "refit": f"weights of {folder.name} replaced"}

        return place_engine(network, draft, device, root, write)
    except NotRefittable as error:
        reason = str(error)
    except ParityError as error:
        reason = error.message
        remove(root / draft.folder_name)  # a build has other bytes for the same name
    built, manifest = build_engine(
        network, found.backend, found.precision, device, root, ranges=artifact.ranges, targets=artifact.targets
    )
    manifest = manifest.model_copy(update={"notes": {**manifest.notes, "refit": f"built anew: {reason}"}})
    write_manifest(built, manifest)
    return built, manifest
