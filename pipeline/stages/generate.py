"""Prompts to candidates: several images of each prompt at different guidance scales (PDS-DPO, section 3.1).

The published seeds are `index * 1000 + k`, so a prompt's candidates differ in guidance and in noise, and a prompt that
moves to another line gets other candidates; seeds from its id do not move with it. The same-seed mode gives all of
them one noise, which is what a study of guidance needs. Every candidate keeps its seed and noise specification: that
is enough to draw it again, and to know its own prior noise in later training.

What comes out black, of one colour or not finite is drawn once more in float32, and rejected if it fails again. A
batch that the device's memory does not hold is drawn in halves. Both become notices of the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...engine.images import encode_image
from ...engine.scorers.choice import ScorerChoice
from ...engine.settings import EngineSettings
from ..declaration import StageDeclaration
from ..generate_settings import GenerateConfig
from ..records import Candidate, Prompt, Reject, content_id, seed_for
from ..sources import DatasetSource, PromptedImage
from ..stage import Stage
from .prompts import STAGE as PROMPTS

if TYPE_CHECKING:
    import torch

    from ...engine.runner import Runner
    from ...engine.sd3.decode import Generated
    from ...engine.sd3.pruning import Pruning


@dataclass(frozen=True)
class _Drawn:
    identity: str
    prompt: Prompt
    seed: int
    guidance: float
    image: torch.Tensor  # uint8 [H, W, 3], where it was drawn
    pixels: np.ndarray  # the same on the host
    failure: str | None


@dataclass(frozen=True)
class _Row:
    prompt: Prompt
    seed: int
    guidance: float


class GenerateStage(Stage[Prompt, Candidate]):
    """Draw every candidate of a batch of prompts in one batch of images."""

    def __init__(self, config: GenerateConfig, settings: EngineSettings) -> None:
        from ...engine.portions import Portions
        from ...engine.sd3.second_try import SecondTry
        from ...engine.sd3.text_to_image import TextToImage

        self.config = config
        # Without a guided scale, and where a lever leaves guidance out, steps run without it.
        scales = config.guidance if config.levers.always_guided else (*config.guidance, 1.0)
        options: dict[str, Any] = {"t5_tokens": config.t5_tokens, "decoded": config.decode_batch}
        options |= {"adapter": Path(config.adapter).expanduser() if config.adapter else None, "guidance": scales}
        self.engine = TextToImage.from_pretrained(config.model, settings, **options, t5=config.t5)
        exact = settings.model_copy(update={"dtype": "float32", "backend": "eager"})
        again = partial(TextToImage.from_pretrained, config.model, exact, **options, t5="host")
        self.second_try = SecondTry(again, self.engine.execution)
        self.portions = Portions()
        self.pruning = self._pruning(settings)
        self.model_keys = (self.engine.key, *([self.pruning.scorer.key] if self.pruning else []))
        width, height = config.width or self.engine.default_size, config.height or self.engine.default_size
        self.size = {"steps": config.steps, "width": width, "height": height}

    def _pruning(self, settings: EngineSettings) -> Pruning | None:
        if (prune := self.config.prune) is None:
            return None
        from ...engine.sd3.pruning import Pruning

        return Pruning(prune.choice(ScorerChoice()).load(settings), prune.after, prune.keep)

    @property
    def runners(self) -> Sequence[Runner]:
        """Those of the generator, and of the scorer that prunes."""
        return (*self.engine.runners, *(self.pruning.scorer.runners if self.pruning else ()))

    @property
    def outcome(self) -> tuple[str, ...]:
        """What was drawn otherwise than asked for."""
        size = self.portions.size
        halved = f"the device's memory did not hold a batch: drawn {size} prompts at a time, whose last bits can differ"
        return (*((halved,) if size else ()), *self.second_try.notices)

    def compute(self, prepared: Sequence[Prompt]) -> list[_Drawn | Reject]:
        """Draw the images; failures stay with their rows."""
        return self.portions.run(prepared, self._draw)

    def _draw(self, prompts: Sequence[Prompt]) -> list[_Drawn | Reject]:
        rows = [
            _Row(prompt, self._seed(prompt, number), guidance)
            for prompt in prompts
            for number, guidance in enumerate(self.config.guidance, start=1)
        ]
        kept, drawn, dropped = self._drawn(rows)
        drawn = self.second_try.mend(drawn, *_columns(kept), **self.size, levers=self.config.levers)
        images = drawn.images.cpu().numpy()
        finished = zip(kept, drawn.images, images, drawn.failures, strict=True)
        return [
            *(
                _Drawn(self._identity(row), row.prompt, row.seed, row.guidance, image, pixels, failure)
                for row, image, pixels, failure in finished
            ),
            *dropped,
        ]

    def _drawn(self, rows: list[_Row]) -> tuple[list[_Row], Generated, list[Reject]]:
        """The rows that were drawn to their end, their images, and the others as rejects."""
        levers = self.config.levers
        if self.pruning is None:
            return rows, self.engine.generate(*_columns(rows), **self.size, levers=levers), []
        from ...engine.sd3.pruning import draw_pruned

        group = len(self.config.guidance)
        pruned = draw_pruned(self.engine, *_columns(rows), self.pruning, group, **self.size, levers=levers)
        after, kept = f"after step {self.pruning.after} of {self.config.steps}", set(pruned.rows)
        dropped = [
            Reject(self._identity(row), STAGE.name, "pruned", f"scored {early:.4f} {after}: {_described(row)}")
            for place, (row, early) in enumerate(zip(rows, pruned.early, strict=True))
            if place not in kept
        ]
        return [rows[place] for place in pruned.rows], pruned.drawn, dropped

    def hand_on(self, computed: list[_Drawn | Reject]) -> list[tuple[str, PromptedImage]]:
        """The images as they were drawn, on their device, for a scorer."""
        return [
            (drawn.identity, PromptedImage(drawn.identity, drawn.image, drawn.prompt.text))
            for drawn in computed
            if isinstance(drawn, _Drawn) and not drawn.failure
        ]

    def finish(self, computed: list[_Drawn | Reject]) -> list[Candidate | Reject]:
        """Encode the images: host work, off the device's path."""
        return [drawn if isinstance(drawn, Reject) else self._record(drawn) for drawn in computed]

    def _record(self, drawn: _Drawn) -> Candidate | Reject:
        if drawn.failure:
            return Reject(drawn.identity, STAGE.name, f"{drawn.failure}_image", _described(drawn))
        return Candidate(
            drawn.identity,
            drawn.prompt.id,
            self.size["width"],
            self.size["height"],
            encode_image(drawn.pixels, self.config.format),
            self.engine.key,
            source=drawn.prompt.source,
            seed=drawn.seed,
            guidance=drawn.guidance,
            steps=self.config.steps,
            noise=self.engine.noise_specification,
        )

    def _identity(self, row: _Row) -> str:
        made = (row.seed, row.guidance, *self.size.values(), *self.config.approximations)
        return content_id("candidate", row.prompt.id, self.engine.key, *made)

    def _seed(self, prompt: Prompt, number: int) -> int:
        if self.config.seeds == "id":
            return seed_for(prompt.id, number)
        return prompt.index * 1000 + (number if self.config.seeds == "paper" else 1)


def _columns(rows: Sequence[_Row]) -> tuple[list[str], list[float], list[int]]:
    return [row.prompt.text for row in rows], [row.guidance for row in rows], [row.seed for row in rows]


def _described(row: _Row | _Drawn) -> str:
    return f"prompt {row.prompt.source}, guidance {row.guidance}, seed {row.seed}"


STAGE = StageDeclaration(
    name="candidates",
    output=Candidate,
    setting="generate",
    reads=(PROMPTS,),
    source=lambda inputs: DatasetSource(inputs.rows(PROMPTS)),
    build=GenerateStage,
    unit="prompts",
    fan_out=lambda settings: settings.candidates,
    checkpoints=lambda settings: settings.checkpoints,
    independent=frozenset({"t5"}),
    hands_on=lambda settings: settings.format != "jpeg",  # only a lossless file is the image that was drawn
    remedy="give generate.model, or import images with `prefmill import --images`",
)

GENERATORS = replace(
    STAGE, setting="generators", remedy="name them in `generators`, or import images with `prefmill import --images`"
)
"""The same stage where a loop has several: an instance, and a folder candidates-NAME, for each."""
