"""A stage that asks a model behind the `Responder` interface: what it owes the model, the run and the reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..stage import Stage
from ..usage import Usage

if TYPE_CHECKING:
    from ...engine.responders.interface import Responder

In = TypeVar("In")
Out = TypeVar("Out")


class AskingStage(Stage[In, Out]):
    """Subclasses load `engine`, or leave it None where they ask nobody, and set `usage` for every batch."""

    engine: Responder | None = None
    usage: Usage | None = None

    @property
    def outcome(self) -> tuple[str, ...]:
        """What a server did not take of the settings, and the like."""
        return tuple(getattr(self.engine, "notices", ()))

    def keep_in(self, folder: Path) -> None:
        """What a server was paid for is kept there."""
        if self.engine is not None:
            self.engine.keep_in(folder)

    def tell(self, say: Callable[[str], None]) -> None:
        """A batch job takes hours, and says how it stands."""
        if engine_tells := getattr(self.engine, "tell", None):
            engine_tells(say)

    def take_usage(self) -> Usage | None:
        """Return what the last batch took."""
        usage, self.usage = self.usage, None
        return usage

    def close(self) -> None:
        """Let go of the model."""
        if self.engine is not None:
            self.engine.close()
