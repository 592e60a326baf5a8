"""Pictures half-way between two scenes, drawn by the generator's own decoder: where right and nearly right meet.

A reward that has seen clear pictures only is at a loss with a drawing that could be a plane or a kite, and most of a
generator's mistakes are of that kind. Latents of a scene and of a near miss are mixed, with noise, and decoded; the
oracle says what came out. That costs a hundredth of what the generator's own drawings cost.
"""

# diffusers exports lazily, which pyright takes for private use.
# pyright: reportPrivateImportUsage=false

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL

from ..world.candidates import GUIDANCE, Candidates, judged_groups
from ..world.perturb import perturb, rename
from ..world.render import render_all
from ..world.scenes import Scene
from .training import to_model_range

MOST_OTHER = 0.7
"""Largest share of the near miss in a mixture."""
MOST_NOISE = 0.6
"""Largest noise, in deviations of the latents."""
_RENAMED_SHARE = 0.6
_BATCH = 64


def morph_candidates(vae: AutoencoderKL, scenes: Sequence[Scene], seed: int) -> Candidates:
    """A group of mixtures for every scene, each with a near miss and a share of its own, judged by the oracle."""
    random = np.random.default_rng(seed)
    asked = [scene for scene in scenes for _ in GUIDANCE]
    near = [(rename if random.random() < _RENAMED_SHARE else perturb)(scene, random) for scene in asked]
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        parts = [
            _mixed(vae, asked[start : start + _BATCH], near[start : start + _BATCH], random)
            for start in range(0, len(asked), _BATCH)
        ]
    return judged_groups(scenes, np.concatenate(parts))


def _mixed(vae: AutoencoderKL, one: list[Scene], other: list[Scene], random: np.random.Generator) -> np.ndarray:
    seed = int(random.integers(2**31))  # the same shifts in both, so that what they share stays sharp
    latents = [vae.encode(to_model_range(render_all(each, seed))).latent_dist.mean for each in (one, other)]  # type: ignore[union-attr]
    shares, strengths = (
        torch.from_numpy(random.uniform(0, most, (len(one), 1, 1, 1)).astype(np.float32))
        for most in (MOST_OTHER, MOST_NOISE)
    )
    noise = torch.randn_like(latents[0]) / vae.config.scaling_factor  # type: ignore[attr-defined]
    mixed = (1 - shares) * latents[0] + shares * latents[1] + strengths * noise
    decoded = vae.decode(mixed).sample.clamp(-1, 1)  # type: ignore[union-attr]
    return ((decoded + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
