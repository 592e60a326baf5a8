"""What can run a network, by name. A new backend is one file with a `Runner`, and one line here."""

from collections.abc import Callable

from ..base.errors import PrefmillError
from .runner import EagerRunner, Network, Runner

BACKENDS: dict[str, Callable[[Network], Runner]] = {"eager": EagerRunner}


def make_runner(network: Network, backend: str = "eager") -> Runner:
    """The runner of a network under a backend. Raises PrefmillError for a name that is none."""
    if backend not in BACKENDS:
        raise PrefmillError(f"there is no backend {backend!r}.", f"choose one of {', '.join(BACKENDS)}")
    return BACKENDS[backend](network)
