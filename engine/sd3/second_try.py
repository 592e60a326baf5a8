"""A second try in float32 for images that came out black, of one colour, or as no numbers at all.

Half precision overflows where float32 does not, and a compiled engine may; the eager network in float32 is what the
checkpoint means. It is loaded when it is first needed, its T5 at rest on the host, and kept.
"""

from collections.abc import Callable, Sequence

import torch

from ..device import Execution
from .decode import Generated
from .levers import Levers
from .text_to_image import TextToImage


class SecondTry:
    """Draws failed rows again; `tried` and `mended` count them."""

    def __init__(self, load: Callable[[], TextToImage], first: Execution) -> None:
        """`load` gives the engine in float32, `first` is how the images are drawn at first."""
        self._load, self._engine = load, None
        self.needed = (first.backend, first.precision) != ("eager", "float32")
        self.tried = self.mended = 0

    def mend(
        self,
        drawn: Generated,
        prompts: Sequence[str],
        guidance: Sequence[float],
        seeds: Sequence[int],
        *,
        steps: int,
        width: int,
        height: int,
        levers: Levers | None = None,
    ) -> Generated:
        """`drawn` with its failed rows drawn again, once. What fails again keeps the second failure's name."""
        failed = [row for row, failure in enumerate(drawn.failures) if failure]
        if not failed or not self.needed:
            return drawn
        self._engine = self._engine or self._load()
        again = self._engine.generate(
            [prompts[row] for row in failed],
            [guidance[row] for row in failed],
            [seeds[row] for row in failed],
            steps=steps,
            width=width,
            height=height,
            levers=levers,
        )
        images, failures = drawn.images.clone(), list(drawn.failures)
        images[torch.tensor(failed, device=images.device)] = again.images.to(images.device)
        for row, failure in zip(failed, again.failures, strict=True):
            failures[row] = failure
        self.tried += len(failed)
        self.mended += again.failures.count(None)
        return Generated(images, failures)

    @property
    def notices(self) -> tuple[str, ...]:
        """What came of it, if anything was tried."""
        if not self.tried:
            return ()
        return (
            f"{self.tried} images that came out black, of one colour or not finite were drawn again, eagerly in "
            f"float32: {self.mended} of them are pictures now, the others are rejected",
        )
