"""Best-of-N with an early look: candidates whose predicted image scores low are not drawn to their end.

After some steps the velocities point to a clean image (`State.clean`), which a scorer can judge long before the last
step. The best of a prompt's candidates are finished, the others are dropped from the batch. A survivor goes on as it
would have gone on anyway: only the composition of its batch, and so its last bits, change.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...base.errors import PrefmillError
from ..scorers.interface import ImageScorer
from .decode import Generated, quantize
from .levers import Levers
from .text_to_image import TextToImage


@dataclass(frozen=True)
class Pruning:
    """Look after step `after`, and finish the best `keep` candidates of every prompt by the `scorer`."""

    scorer: ImageScorer
    after: int
    keep: int


@dataclass(frozen=True)
class Pruned:
    """`drawn` are the survivors' images, `rows` their places among all candidates, `early` all early scores."""

    drawn: Generated
    rows: list[int]
    early: list[float]


def draw_pruned(
    engine: TextToImage,
    prompts: Sequence[str],
    guidance: Sequence[float],
    seeds: Sequence[int],
    pruning: Pruning,
    group: int,
    *,
    steps: int,
    width: int,
    height: int,
    levers: Levers | None = None,
) -> Pruned:
    """Draw as `TextToImage.generate` does, of each `group` consecutive candidates only the best to their end.

    Raises PrefmillError as `generate` does, and for a look after the last step or a group that loses nobody.
    """
    if not 1 <= pruning.after < steps:
        raise PrefmillError(
            f"pruning after step {pruning.after} of {steps} saves nothing.", f"look after a step from 1 to {steps - 1}"
        )
    if not 1 <= pruning.keep < group:
        raise PrefmillError(f"keeping {pruning.keep} of {group} candidates prunes none.", "keep fewer, or do not prune")
    early, rows = torch.zeros(len(prompts)), torch.arange(len(prompts))
    with torch.inference_mode():
        drawing = engine.denoise(prompts, guidance, seeds, steps=steps, width=width, height=height, levers=levers)
        latents = torch.empty(0)
        for state in drawing:
            latents = state.latents
            if state.step == pruning.after:
                early = _scores(pruning.scorer, quantize(engine.decode(state.clean())), prompts)
                rows = survivors(early, group, pruning.keep)
                drawing.keep(rows.to(state.latents.device))
        drawn = quantize(engine.decode(latents))
    return Pruned(drawn, rows.tolist(), early.tolist())


def survivors(scores: torch.Tensor, group: int, keep: int) -> torch.Tensor:
    """The places of the best `keep` of every `group` consecutive scores, in order; of equal ones the first."""
    ranked = scores.view(-1, group).sort(dim=1, descending=True, stable=True).indices[:, :keep].sort(dim=1).values
    return (ranked + torch.arange(0, len(scores), group)[:, None]).flatten()


def _scores(scorer: ImageScorer, predicted: Generated, prompts: Sequence[str]) -> torch.Tensor:
    """Early scores [B]; what is no picture comes last."""
    values = scorer.score(scorer.preprocess(predicted.images.permute(0, 3, 1, 2)), prompts).values
    failed = torch.tensor([failure is not None for failure in predicted.failures])
    return values.nan_to_num(-math.inf).masked_fill(failed, -math.inf)
