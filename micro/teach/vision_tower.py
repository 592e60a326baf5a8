"""Teach a responder's CLIP vision tower to see: every patch learns what is in its cell.

The heads are thrown away; the tower stays as it is from then on.
"""

import torch
from transformers import CLIPVisionModel

from ..world.truth import cell_labels, ground_labels
from .responder_pictures import RenderStream
from .training import OnProgress, Trainer, plain_attention
from .vision_heads import PatchHeads

BATCH = 64
LEARNING_RATE = 2e-3


def train_vision_tower(tower: CLIPVisionModel, stream: RenderStream, steps: int, on_progress: OnProgress) -> None:
    """Train in place for `steps` steps."""
    heads = PatchHeads(tower.config.hidden_size)
    trainer = Trainer("vision tower", {"tower": tower, "heads": heads}, steps, LEARNING_RATE, on_progress)
    for number in range(steps):
        scenes, images = stream.batch(BATCH)
        with plain_attention():
            states = patch_states(tower, stream.seen(images))
            loss = heads.loss(states, cell_labels(scenes), ground_labels(scenes))
        trainer.step(number, loss)


def patch_states(tower: CLIPVisionModel, pixels: torch.Tensor) -> torch.Tensor:
    """What LLaVA reads of pixels [B, 3, 32, 32]: the last layer's patch states [B, 16, D]."""
    states = tower(pixels, output_hidden_states=True).hidden_states
    assert states is not None
    return states[-1][:, 1:]
