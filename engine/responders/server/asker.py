"""The two ways to have queries answered by a server: call by call (`calls.py`), or as a batch job (`jobs.py`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from ..interface import Reply
from .query import Query

Done = Callable[[Query, Reply, bool], None]
"""Called once for each query, as soon as its reply is there: and whether the model has worked for it."""


class Asker(Protocol):
    """A way to ask."""

    notices: list[str]
    """What a reader of the answers should know: parameters that the server did not take."""
    say: Callable[[str], None]
    """Whom to tell what takes long."""

    async def ask(self, queries: Sequence[Query], done: Done) -> None:
        """Ask, and call `done` for every query. Raises PrefmillError where nothing gets better by trying."""
        ...

    def keep_in(self, folder: Path, answers: int) -> None:
        """Keep what a restart has to know in a folder, which holds so many answers."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
