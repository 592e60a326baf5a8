"""What can run a network, by name. A new backend is one file with a `Runner`, and one line here."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import torch

from ...base.errors import PrefmillError
from ..artifact import Artifact, digest_once, find_artifact, identity_of
from ..device import resolve_device, resolve_dtype, resolve_precision
from ..network import Network
from ..runner import EagerRunner, Runner
from ..settings import EIGHT_BIT, EngineSettings
from .engine_runner import EngineRunner
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
    """The runner of a network under the backend of the settings: `make_runners` for one."""
    return make_runners((network,), settings)[0]


def make_runners(
    networks: Sequence[Network], settings: EngineSettings | None = None, *, release: Sequence[torch.nn.Module] = ()
) -> tuple[Runner, ...]:
    """The runners of networks under the backend of the settings; weights that several share are hashed once.

    `release` are modules whose weights nothing but these networks reads: where engines run all of these, that memory
    is given back. Raises PrefmillError for a backend that is not installed, and where no engine fits; with
    `missing` "eager" such a network runs eagerly, and its runner's `fallback` says why.
    """
    settings = settings or EngineSettings()
    weights: dict[int, str] = {}
    runners = tuple(_runner(network, settings, weights) for network in networks)
    pairs = zip(networks, runners, strict=True)
    if all(network.eager_only or isinstance(runner, EngineRunner) for network, runner in pairs):
        for module in release:
            module.to("meta")
    return runners


def _runner(network: Network, settings: EngineSettings, weights: dict[int, str]) -> Runner:
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
        require_backend(settings.backend)
        digest = digest_once(network.module, weights)
        identity = identity_of(network, settings.backend, precision, weights=digest)
        folder, artifact = find_artifact(settings.artifacts_folder, identity, device)
    except PrefmillError as error:
        if settings.missing == "eager":
            return EagerRunner(network, fallback=f"{error.message.rstrip('.')}; {network.name} runs eagerly")
        raise
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
