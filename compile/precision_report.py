"""What a precision costs where it counts: images, their rewards, and which of them is picked, against eager float32.

An engine's parity (`verify.py`) is about one step on made-up inputs. Errors of steps add up, and may not matter: what
the product keeps is the image that the reward likes best. So both engines draw the same prompts from the same noise,
and the same scorer judges both.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from ..base.errors import PrefmillError
from ..base.settings import Settings
from ..engine.artifact import Artifact, write_manifest
from ..engine.scorers.interface import ImageScorer
from ..engine.sd3.text_to_image import TextToImage

_NOTE = "precision_report"


class PrecisionReport(Settings):
    """An engine's images against the eager ones: the same prompts, guidance scales and noise."""

    backend: str
    precision: str
    prompts: int
    guidance: tuple[float, ...]
    steps: int
    failed: int
    """Images of the engine that are none (black, or not finite), of prompts times scales."""
    psnr: float | None
    """Decibels over the pixels (0 to 255) of all images together; None: they are the same."""
    worst_psnr: float | None
    """Of the image that differs most."""
    reward_drift: float
    """Mean size of the difference of an image's reward."""
    reward_bias: float
    """Mean difference: engine less eager."""
    reward_spread: float
    """Standard deviation of the eager rewards among the images of a prompt, mean over prompts: what drift is beside."""
    pick_agreement: float
    """Share of prompts whose best image is the same."""

    @property
    def text(self) -> str:
        """In a line."""
        images = self.prompts * len(self.guidance)
        psnr = "the same pixels" if self.psnr is None else f"PSNR {self.psnr:.1f} dB, {self.worst_psnr:.1f} at worst"
        return (
            f"{self.backend} {self.precision} against eager float32: {images} images of {self.prompts} prompts, "
            f"{psnr}, "
            f"reward drift {self.reward_drift:.2g} beside a spread of {self.reward_spread:.2g}, "
            f"{self.pick_agreement:.0%} of picks the same, {self.failed} failed"
        )


def report(
    eager: TextToImage,
    engine: TextToImage,
    scorer: ImageScorer,
    prompts: Sequence[str],
    guidance: Sequence[float],
    *,
    steps: int = 28,
    first_seed: int = 0,
) -> PrecisionReport:
    """Draw every prompt at every guidance scale with both engines, one prompt at a time, and compare.

    Images have the size that the checkpoint was trained at; seeds count up from `first_seed`. Raises PrefmillError
    without prompts or without two scales to choose between.
    """
    if not prompts or len(guidance) < 2:
        raise PrefmillError(
            f"{len(prompts)} prompts at {len(guidance)} guidance scales leave nothing to pick.",
            "give at least one prompt and two guidance scales",
        )
    side, failed = eager.default_size, 0
    errors, rewards = [], []
    for number, prompt in enumerate(prompts):
        seeds = [first_seed + number * len(guidance) + row for row in range(len(guidance))]
        drawn = [
            one.generate([prompt] * len(guidance), guidance, seeds, steps=steps, width=side, height=side)
            for one in (eager, engine)
        ]
        failed += sum(reason is not None for reason in drawn[1].failures)
        images = [one.images.cpu() for one in drawn]
        errors.append((images[0].double() - images[1].double()).square().flatten(1).mean(1))
        pixels = [scorer.preprocess(one.permute(0, 3, 1, 2).contiguous()) for one in images]
        rewards.append(torch.stack([scorer.score(one, [prompt] * len(guidance)).values.double() for one in pixels]))
    error, reward = torch.stack(errors), torch.stack(rewards)  # [P, G] and [P, 2, G]
    drift = reward[:, 1] - reward[:, 0]
    best = reward.nan_to_num(-math.inf).argmax(2)
    execution = engine.execution
    return PrecisionReport(
        backend=execution.backend,
        precision=execution.precision,
        prompts=len(prompts),
        guidance=tuple(guidance),
        steps=steps,
        failed=failed,
        psnr=_decibels(float(error.mean())),
        worst_psnr=_decibels(float(error.max())),
        reward_drift=_mean(drift.abs()),
        reward_bias=_mean(drift),
        reward_spread=_mean(reward[:, 0].std(1)),
        pick_agreement=float((best[:, 0] == best[:, 1]).double().mean()),
    )


def write_report(folder: Path, artifact: Artifact, found: PrecisionReport) -> Artifact:
    """Keep a report in the manifest of the engine that it is about. Raises PrefmillError as write_manifest does."""
    noted = artifact.model_copy(update={"notes": {**artifact.notes, _NOTE: found.model_dump(mode="json")}})
    write_manifest(folder, noted)
    return noted


def _decibels(error: float) -> float | None:
    """The peak signal-to-noise ratio of a mean squared error of pixels from 0 to 255."""
    return 10 * math.log10(255**2 / error) if error > 0 else None


def _mean(values: torch.Tensor) -> float:
    """Of the values that are finite; 0 where none is."""
    kept = values[values.isfinite()]
    return float(kept.mean()) if len(kept) else 0.0
