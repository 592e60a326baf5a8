"""A stage that asks a model behind the `Responder` interface: what it owes the model, the run and the reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ...engine.responders.catalogue import load_responder
from ..stage import Stage
from ..usage import Usage

if TYPE_CHECKING:
    from ...engine.responders.interface import Reply, Responder
    from ...engine.responders.settings import ModelChoice
    from ...engine.settings import EngineSettings

In = TypeVar("In")
Out = TypeVar("Out")


class AskingStage(Stage[In, Out]):
    """Subclasses `load` a responder, or leave `engine` None where they ask nobody, and `count` what it replies."""

    engine: Responder | None = None
    usage: Usage | None = None

    def load(self, choice: ModelChoice, settings: EngineSettings) -> None:
        """Load the model that is asked. Raises PrefmillError as `load_responder` does."""
        self.engine = load_responder(choice, settings)
        self.model_keys = (self.engine.key,)

    def count(self, replies: Iterable[Reply]) -> None:
        """Add replies to what this batch took."""
        self.usage = (self.usage or Usage()) + Usage.of(replies)

    @property
    def outcome(self) -> tuple[str, ...]:
        """What a server did not take of the settings, and the like."""
        return () if self.engine is None else self.engine.notices

    def keep_in(self, folder: Path) -> None:
        """What a server was paid for is kept there."""
        if self.engine is not None:
            self.engine.keep_in(folder)

    def tell(self, say: Callable[[str], None]) -> None:
        """A batch job takes hours, and says how it stands."""
        if self.engine is not None:
            self.engine.tell(say)

    def take_usage(self) -> Usage | None:
        """Return what the last batch took."""
        usage, self.usage = self.usage, None
        return usage

    def close(self) -> None:
        """Let go of the model."""
        if self.engine is not None:
            self.engine.close()
