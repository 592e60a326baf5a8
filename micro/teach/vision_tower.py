"""Teach a responder's CLIP vision tower to see: every patch learns what is in its cell.

The pictures are spoiled on the way, because responders will be asked about generated images, which are softer and
noisier than drawn ones. The heads are thrown away; the tower stays as it is from then on.
"""

import numpy as np
import torch
from torch.nn import functional
from transformers import CLIPVisionModel

from ..world.truth import cell_labels, ground_labels
from .training import OnProgress, SceneStream, Trainer, plain_attention
from .vision_heads import PatchHeads

BATCH = 64
LEARNING_RATE = 2e-3
_SPOILED_SHARE = 0.6


def train_vision_tower(tower: CLIPVisionModel, stream: SceneStream, steps: int, on_progress: OnProgress) -> None:
    """Train in place for `steps` steps."""
    heads = PatchHeads(tower.config.hidden_size)
    trainer = Trainer("vision tower", {"tower": tower, "heads": heads}, steps, LEARNING_RATE, on_progress)
    for number in range(steps):
        scenes, images = stream.batch(BATCH)
        with plain_attention():
            states = patch_states(tower, spoil(images, stream.random))
            loss = heads.loss(states, cell_labels(scenes), ground_labels(scenes))
        trainer.step(number, loss)


def patch_states(tower: CLIPVisionModel, pixels: torch.Tensor) -> torch.Tensor:
    """What LLaVA reads of pixels [B, 3, 32, 32]: the last layer's patch states [B, 16, D]."""
    states = tower(pixels, output_hidden_states=True).hidden_states
    assert states is not None
    return states[-1][:, 1:]


def spoil(images: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Blur, noise, weaker contrast and shifted colours, each image its own; float [B, 3, H, W] in -1 to 1."""
    count = len(images)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.from_numpy(random.uniform(low, high, (count, 1, 1, 1)).astype(np.float32))

    chosen = torch.from_numpy(random.random((count, 1, 1, 1)) < _SPOILED_SHARE)
    soft = uniform(0, 1)
    changed = images + soft * (_blurred(images) - images)
    noise = torch.from_numpy(random.standard_normal(tuple(images.shape)).astype(np.float32))
    smooth = functional.interpolate(noise[..., ::4, ::4], scale_factor=4, mode="bilinear")
    tint = torch.from_numpy(random.normal(0, 0.06, (count, 3, 1, 1)).astype(np.float32))
    changed = changed * uniform(0.85, 1.05) + tint + uniform(0, 0.2) * noise + uniform(0, 0.3) * smooth
    return torch.where(chosen, changed.clamp(-1, 1), images)


def _blurred(images: torch.Tensor) -> torch.Tensor:
    row = torch.tensor([0.1, 0.24, 0.32, 0.24, 0.1])
    kernel = torch.outer(row, row).expand(3, 1, 5, 5)
    return functional.conv2d(functional.pad(images, (2, 2, 2, 2), mode="replicate"), kernel, groups=3)
