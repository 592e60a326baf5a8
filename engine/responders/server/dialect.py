"""A server's format: where a query goes, how it is written, how its reply is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .completion import Completion
from .query import Query


@dataclass(frozen=True)
class Dialect:
    """One format. `read` raises `Unreadable` for a reply that is not in it."""

    path: str
    headers: Callable[[str | None], dict[str, str]]
    """From the key, if there is one."""
    body: Callable[[str, Query], dict[str, Any]]
    """From the model's name on the server."""
    read: Callable[[Any], Completion]
    optional: Mapping[str, str]
    """The parameters that a server may refuse, with what follows from leaving them out."""
    renamed: Mapping[str, str]
    """Parameters that some servers want by another name."""
