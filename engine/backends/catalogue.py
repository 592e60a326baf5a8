"""What can run a network, by name. A new backend is one file with a `Runner`, and one line here."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

from ...base.errors import PrefmillError
from ..artifact import Artifact, check_files, find_artifact, identity_of
from ..device import resolve_device, resolve_dtype, resolve_precision
from ..network import Network
from ..runner import EagerRunner, Runner
from ..settings import EIGHT_BIT, EngineSettings
from .torch_compile import TorchCompileRunner

DIRECT: dict[str, Callable[[Network], Runner]] = {"eager": EagerRunner, "torch_compile": TorchCompileRunner}
"""Backends that need nothing but the network."""

ENGINES: dict[str, tuple[str, str, str]] = {
    "onnxruntime": ("onnxruntime", "OnnxRuntimeRunner", "onnxruntime"),
    "openvino": ("openvino", "OpenVinoRunner", "openvino"),
    "aoti": ("aoti", "AotiRunner", "torch"),
    "tensorrt": ("tensorrt", "TensorRtRunner", "tensorrt"),
    "tensorrt_rtx": ("tensorrt", "TensorRtRunner", "tensorrt_rtx"),
}
"""Backends that run engines built before: their file here, the class in it, and the package they need."""


def make_runner(network: Network, settings: EngineSettings | None = None) -> Runner:
    """The runner of a network under the backend of the settings.

    Raises PrefmillError for a backend that is not installed, and, with `missing` other than "eager", where no engine
    fits; with "eager" the network then runs eagerly, and the runner's `fallback` says why.
    """
    settings = settings or EngineSettings()
    if network.eager_only:
        return EagerRunner(network)
    if settings.backend in DIRECT:
        if settings.dtype in EIGHT_BIT:
            raise PrefmillError(
                f"{settings.backend} does not compute in {settings.dtype}.",
                "--set engine.dtype=auto, or a backend that runs engines: --set engine.backend=tensorrt",
            )
        return DIRECT[settings.backend](network)
    device = resolve_device(settings)
    around = settings.dtype in EIGHT_BIT and network.kept_precise is None  # it has no eight-bit engine
    precision = (
        str(resolve_dtype(settings, device)).removeprefix("torch.") if around else (resolve_precision(settings, device))
    )
    try:
        folder, artifact = find_artifact(
            settings.artifacts_folder, identity_of(network, settings.backend, precision), device
        )
        check_files(folder, artifact)
    except LookupError as error:
        message = f"no {settings.backend} engine of {network.name} in {precision} fits: {error}"
        if settings.missing == "eager":
            return EagerRunner(network, fallback=f"{message}; it runs eagerly")
        raise PrefmillError(
            f"{message}.", f"prefmill compile build RECIPE --set engine.backend={settings.backend}, or "
            "--set engine.missing=build (or =eager)"
        ) from error  # fmt: skip
    return load_engine(network, folder, artifact, device, cuda_graphs=settings.cuda_graphs)


def load_engine(
    network: Network, folder: Path, artifact: Artifact, device: torch.device, *, cuda_graphs: bool = False
) -> Runner:
    """The runner of one engine, whatever its state. Raises PrefmillError for a backend that is not installed."""
    backend = artifact.identity.backend
    module, name, _ = ENGINES[backend]
    require_backend(backend)
    options = {"cuda_graphs": cuda_graphs} if module == "tensorrt" else {}
    make: Callable[..., Runner] = getattr(import_module(f".{module}", __package__), name)
    return make(network, folder, artifact, device, **options)


def require_backend(backend: str) -> None:
    """Raise PrefmillError, naming the extra, for a backend whose package is not installed."""
    try:
        import_module(ENGINES[backend][2])
    except ImportError as error:
        extra = backend.replace("_", "-")
        raise PrefmillError(
            f"the backend {backend} is not installed: {error}.", f"pip install prefmill[{extra}]"
        ) from error
