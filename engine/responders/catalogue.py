"""The ways to run a responder, by the name that a configuration gives them. Free of torch until one is loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ...base.errors import PrefmillError
from ..settings import EngineSettings
from .settings import ModelChoice

if TYPE_CHECKING:
    from .interface import Responder


@dataclass(frozen=True)
class ResponderBackend:
    """One way: how a model is loaded, and what runs it, with its version, where answers depend on that."""

    load: Callable[[ModelChoice, EngineSettings, Path | None], "Responder"]
    runtime: Callable[[ModelChoice], str]
    loads_weights: bool = True
    """Whether the model is a checkpoint that is loaded here."""
    check: Callable[[ModelChoice], None] = lambda choice: None
    """Raises PrefmillError for what would keep a model from being asked, long before it is."""


def _transformers(choice: ModelChoice, settings: EngineSettings, adapter: Path | None) -> "Responder":
    from ..sources import resolve_checkpoint
    from .transformers import TransformersResponder, reads_images
    from .transformers_text import TransformersTextResponder

    if adapter is not None or reads_images(resolve_checkpoint(choice.model)):
        return TransformersResponder.from_pretrained(choice.model, settings, adapter=adapter)
    return TransformersTextResponder.from_pretrained(choice.model, settings)


def _server(choice: ModelChoice, settings: EngineSettings, adapter: Path | None) -> "Responder":
    from .server.responder import ServerResponder

    return ServerResponder.of(choice)


def _check_server(choice: ModelChoice) -> None:
    from .server.probe import probe

    probe(choice)


def _vllm(choice: ModelChoice, settings: EngineSettings, adapter: Path | None) -> "Responder":
    from .vllm.responder import VllmResponder

    return VllmResponder.of(choice, settings, adapter)


def _vllm_version(choice: ModelChoice) -> str:
    from .vllm.interpreter import runtime

    return runtime()


SERVER = ResponderBackend(_server, lambda choice: "", loads_weights=False, check=_check_server)

RESPONDERS: dict[str, ResponderBackend] = {
    "transformers": ResponderBackend(_transformers, lambda choice: f"transformers-{version('transformers')}"),
    "vllm": ResponderBackend(_vllm, _vllm_version),
    **dict.fromkeys(("openai", "anthropic", "openai_batch", "anthropic_batch"), SERVER),
}


def load_responder(
    choice: ModelChoice, settings: EngineSettings | None = None, *, adapter: Path | None = None
) -> "Responder":
    """Load a model under its backend, with a trained adapter where one is given.

    Raises PrefmillError for an unknown backend and whatever does not load.
    """
    return backend_of(choice).load(choice, settings or EngineSettings(), adapter)


def backend_of(choice: ModelChoice) -> ResponderBackend:
    """Return what runs a model. Raises PrefmillError for an unknown backend."""
    if choice.backend not in RESPONDERS:
        known = ", ".join(RESPONDERS)
        raise PrefmillError(f"there is no responder backend {choice.backend!r}.", f"choose one of {known}")
    return RESPONDERS[choice.backend]
