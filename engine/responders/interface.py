"""What every responder offers, whatever runs it: images and instructions in, seeded answers out."""

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from ..device import Execution
from ..settings import Sampling
from .sampling import Answer


class Responder(Protocol):
    """A loaded vision-language model; `key` names its weights by content."""

    key: str

    @property
    def execution(self) -> Execution:
        """How the model really runs."""
        ...

    def answer(
        self, images: Sequence[Image.Image], instructions: Sequence[str], seeds: Sequence[int], sampling: Sampling
    ) -> list[Answer]:
        """Answer one instruction about each image; a row depends on its own seed alone.

        Raises PrefmillError for unequal counts, an instruction longer than the model's context, and NaN logits.
        """
        ...
