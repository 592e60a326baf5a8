"""Flow-DPO: of two images of one prompt, the better one shall become likelier than the worse one.

A flow has no likelihood at hand, but an upper bound of it falls with the error of its velocities. So with noise e of
one draw and one level s for winner and loser, x_s = (1 - s) x_0 + s e, v* = e - x_0 and E = mean((v - v*)^2):

    loss = -log sigmoid(-beta / 2 ((E_w - E_w^ref) - (E_l - E_l^ref)))

(Diffusion-DPO, arXiv 2311.12908, as Flow-GRPO and VideoAlign, arXiv 2501.13918, have it for flows.) Pairs are a run's
preferences, or are made on the way: see `online.py`. Velocities are those under the prompt, which every guidance scale
uses, or the guided ones that an image was drawn by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.nn.functional import softplus

from ...base.errors import PrefmillError
from ...pipeline.records import seed_for
from .method import Method, TuningTask
from .online import OnlinePairs
from .policy import guided
from .preferences import ImagePair, StoredImages


class LatentPair(NamedTuple):
    """Clean latents [C, h, w] of the better and the worse image, the noise that each is mixed with, and its weight."""

    id: str
    prompt: str
    chosen: torch.Tensor
    rejected: torch.Tensor
    noise: tuple[torch.Tensor, torch.Tensor] | None = None
    weight: float = 1.0


class PairLosses(NamedTuple):
    """Per pair [B]: the loss, and the implicit reward by which the chosen image leads; above 0 the pair is right."""

    loss: torch.Tensor
    margin: torch.Tensor


def pair_losses(errors: torch.Tensor, reference: torch.Tensor, beta: float) -> PairLosses:
    """The losses of errors [2, B] (chosen, rejected) against the reference's, in their type."""
    chosen, rejected = errors - reference
    margin = -0.5 * beta * (chosen - rejected)
    return PairLosses(softplus(-margin), margin)


class FlowDpo(Method):
    """See the module. `images` are a run's, for its preferences."""

    def __init__(self, task: TuningTask, images: StoredImages | None = None) -> None:
        super().__init__(task)
        self.settings = task.config.flow_dpo
        self.images = images
        self.online = OnlinePairs(task) if self.settings.online else None
        self._latents: dict[str, torch.Tensor] = {}
        self._told: list[torch.Tensor] = []

    def losses(self, step: int) -> Iterator[torch.Tensor]:
        policy, every = self.task.policy, self.settings.reference_every
        if every and step and step % every == 0:
            policy.anchor = policy.weights()
        pairs, whole = self._pairs(step)
        for start in range(0, len(pairs) if whole else 0, self.settings.micro_batch):
            batch = pairs[start : start + self.settings.micro_batch]
            weights = torch.tensor([pair.weight for pair in batch], device=policy.device)
            found, errors = self._compute(batch, step)
            self._told.append(torch.stack([weights, found.margin.detach(), *errors.detach()], 1))
            yield (found.loss * weights).sum() / whole

    def metrics(self) -> dict[str, float]:
        online = self.online.metrics() if self.online else {}
        if not self._told:
            return online
        told = self.task.gather(torch.cat(self._told)).double()
        self._told = []
        weights, margin, chosen, rejected = told.unbind(1)

        def mean(values: torch.Tensor) -> float:
            return float((values * weights).sum() / weights.sum())

        return {
            "accuracy": mean((margin > 0).double()),
            "margin": mean(margin),
            "error/chosen": mean(chosen),
            "error/rejected": mean(rejected),
            **online,
        }

    def _pairs(self, step: int) -> tuple[list[LatentPair], float]:
        """This process's pairs of a step, and by what the weighted sum of their losses is divided."""
        if self.online:
            drawn = self.online.draw(step)
            pairs = [LatentPair(one.id, one.prompt, one.best, one.worst, None, float(one.differ)) for one in drawn]
        else:
            given = self.task.pairs
            rows = self.task.chosen(len(given), self.settings.batch_size, step)
            pairs = [self._stored(given[row]) for row in self.task.own(rows)]
        weights = self.task.gather(torch.tensor([pair.weight for pair in pairs], device=self.task.policy.device))
        return pairs, float(weights.sum()) / self.task.processes

    def _compute(self, pairs: Sequence[LatentPair], step: int) -> tuple[PairLosses, torch.Tensor]:
        policy, number = self.task.policy, len(pairs)
        streams = [
            torch.Generator().manual_seed(seed_for(pair.id, "flow-dpo", step, self.task.config.seed)) for pair in pairs
        ]
        normal = torch.cat([torch.randn(1, generator=stream) for stream in streams])
        levels = (normal * self.settings.level_deviation + self.settings.level_mean).sigmoid().repeat(2)
        fresh = [torch.randn(pair.chosen.shape, generator=stream) for pair, stream in zip(pairs, streams, strict=True)]
        both = [pair.noise or (noise, noise) for pair, noise in zip(pairs, fresh, strict=True)]
        noise = torch.stack([*(one for one, _ in both), *(other for _, other in both)]).to(policy.device)
        clean = torch.stack([*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)]).to(policy.device)
        share = levels.to(policy.device).view(-1, 1, 1, 1)
        mixed, wanted = (1 - share) * clean + share * noise, noise - clean
        scale = self.task.guidance(self.settings.guidance, step) if self.settings.guided else 1.0
        conditioning = policy.conditioning([pair.prompt for pair in pairs] * 2, scale)

        def errors() -> torch.Tensor:
            velocity = guided(*policy.velocities(mixed, policy.times(levels), conditioning), conditioning)
            return (velocity - wanted).square().flatten(1).mean(1).view(2, number)

        with policy.reference():
            reference = errors()
        own = errors()
        return pair_losses(own, reference, self.settings.beta), own

    def _stored(self, pair: ImagePair) -> LatentPair:
        chosen, rejected = (self._clean(pair, name) for name in (pair.chosen_id, pair.rejected_id))
        noise = None
        if self.settings.noise == "own":
            noise = self._own_noise(pair.chosen_id), self._own_noise(pair.rejected_id)
        return LatentPair(pair.id, pair.prompt, chosen, rejected, noise)

    def _clean(self, pair: ImagePair, image_id: str) -> torch.Tensor:
        """An image's latents, encoded once and kept in the host's memory."""
        if image_id not in self._latents:
            assert self.images is not None
            policy = self.task.policy
            candidate = self.images.candidate(image_id)
            pixels = self.images.pixels(candidate, policy.width, policy.height)
            self._latents[image_id] = policy.encode(pixels[None])[0].cpu()
        return self._latents[image_id]

    def _own_noise(self, image_id: str) -> torch.Tensor:
        assert self.images is not None
        policy, candidate = self.task.policy, self.images.candidate(image_id)
        if candidate.seed is None or candidate.noise != policy.engine.noise_specification:
            raise PrefmillError(
                f"image {image_id} does not say which noise it was drawn from, or it was drawn by another program",
                "set flow_dpo.noise=fresh",
            )
        return policy.engine.noise([candidate.seed], width=policy.width, height=policy.height)[0].float().cpu()
