"""The ways to run a responder, by the name that a configuration gives them. Free of torch until one is loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ...base.errors import PrefmillError
from ..settings import EngineSettings

if TYPE_CHECKING:
    from .interface import Responder


def _transformers(source: str, settings: EngineSettings, adapter: Path | None) -> "Responder":
    from .transformers import TransformersResponder

    return TransformersResponder.from_pretrained(source, settings, adapter=adapter)


RESPONDERS: dict[str, Callable[[str, EngineSettings, Path | None], "Responder"]] = {"transformers": _transformers}


def load_responder(
    backend: str, source: str, settings: EngineSettings | None = None, *, adapter: Path | None = None
) -> "Responder":
    """Load the checkpoint `source` under `backend`, with a trained adapter where one is given.

    Raises PrefmillError for an unknown name and whatever does not load.
    """
    if backend not in RESPONDERS:
        raise PrefmillError(f"there is no responder backend {backend!r}.", f"choose one of {', '.join(RESPONDERS)}")
    return RESPONDERS[backend](source, settings or EngineSettings(), adapter)
