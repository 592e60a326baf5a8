"""What every responder offers, whatever runs it: requests in, seeded answers or reasons why there is none out.

One interface for all who ask a model for text: responders about an image, writers of prompts and instructions,
judges. A request that fails is a `Failure` with its reason, never an empty answer: an empty one would be compared with
the others, and trained on.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from PIL import Image

from ..settings import Sampling

if TYPE_CHECKING:  # torch: a server's answers come without it
    from ..device import Execution
    from ..runner import Runner


@dataclass(frozen=True)
class Request:
    """One turn of a chat: a text, after the images it is about.

    `seed` decides what is drawn, apart from its neighbours. `name` is the caller's own for it, unique and the same in
    every rerun: what an answer that was paid for is kept under.
    """

    text: str
    seed: int = 0
    images: tuple[Image.Image, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Answer:
    """One generated text; `length` means that max_new_tokens cut it. `tokens` counts the text's own tokens.

    `seconds` from the request to the answer, `cost` in the currency of the prices that were set; None: not known.
    Neither belongs to the answer: two answers that differ in nothing else are equal.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    tokens: int
    prompt_tokens: int | None = field(default=None, compare=False)
    seconds: float | None = field(default=None, compare=False)
    cost: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Failure:
    """A request that got no answer: `reason` in a word for counting, `detail` for people; what it cost all the same."""

    reason: str
    detail: str = ""
    seconds: float | None = field(default=None, compare=False)
    cost: float | None = field(default=None, compare=False)


Reply = Answer | Failure


class Responder(Protocol):
    """A model that answers; `key` names its weights by content, what runs it, and in which version.

    Subclasses load it and answer; what else they may have to say or to end is nothing by default.
    """

    key: str

    @property
    def execution(self) -> Execution | None:
        """How the model really runs; None where that is somebody else's machine."""
        return None

    @property
    def runners(self) -> Sequence[Runner]:
        """Everything that runs a network of it, as far as that goes through a `Runner`."""
        return ()

    @property
    def notices(self) -> tuple[str, ...]:
        """What a reader of its answers should know: settings that a server did not take, and the like."""
        return ()

    @abstractmethod
    def answer(
        self, requests: Sequence[Request], sampling: Sampling, schema: dict[str, Any] | None = None
    ) -> list[Reply]:
        """Return one reply per request, in their order; a row depends on its own request alone.

        `schema` is a JSON schema that a backend holds the model to where it can; the caller checks the answer all the
        same. Raises PrefmillError for what makes every request fail: a wrong key, NaN logits.
        """

    def tell(self, say: Callable[[str], None]) -> None:
        """Learn whom to tell what takes long within one call: nobody, where a call is short."""

    def keep_in(self, folder: Path) -> None:
        """Keep answers that were paid for in `folder` from now on, and take those that are kept there for answered.

        Nothing is kept where nothing is paid: what was not committed is computed again.
        """

    def close(self) -> None:
        """Let go of what outlives the object: a process that holds the model, connections."""
