"""Train the image autoencoder of the micro Stable Diffusion 3: 32 x 32 pixels to latents of 8 x 8 x 16 and back.

The latents are made for the generator that has to draw them: noise of about a fifth of their deviation leaves the
picture as it is, so that small errors do no harm. Half of its training pictures have an object in every cell: more to
learn from than scenes, none of which has four.
"""

# diffusers exports lazily, which pyright takes for private use.
# pyright: reportPrivateImportUsage=false

import numpy as np
import torch
from diffusers import AutoencoderKL

from ..world.render import IMAGE_SIZE, render_all
from ..world.scenes import BACKGROUNDS, CELLS, COLOURS, KINDS, Item, Scene
from .training import OnProgress, SceneStream, Trainer, plain_attention, reproducible, to_model_range

STEPS = 2600
BATCH = 8
LEARNING_RATE = 3e-3
DIVERGENCE_WEIGHT = 0.002


def train_autoencoder(seed: int, on_progress: OnProgress) -> AutoencoderKL:
    """Train from nothing; scaling and shift factors are set so that latents have mean 0 and deviation 1."""
    with reproducible(seed):
        model = AutoencoderKL(
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * 3,  # type: ignore[arg-type]  # annotated as a 1-tuple
            up_block_types=("UpDecoderBlock2D",) * 3,  # type: ignore[arg-type]
            block_out_channels=(16, 32, 64),  # type: ignore[arg-type]
            layers_per_block=1,
            latent_channels=16,
            norm_num_groups=8,
            sample_size=IMAGE_SIZE,
            use_quant_conv=False,
            use_post_quant_conv=False,
            mid_block_add_attention=False,
        )
        trainer = Trainer("autoencoder", {"vae": model}, STEPS, LEARNING_RATE, on_progress)
        random = np.random.default_rng(seed)
        stream = SceneStream(seed)
        for number in range(STEPS):
            images = _crowded(random, BATCH) if number % 2 else stream.batch(BATCH)[1]
            with plain_attention():
                latents = model.encode(images).latent_dist  # type: ignore[union-attr]
                decoded = model.decode(latents.sample()).sample.float()  # type: ignore[union-attr]
            error = decoded - images
            divergence = latents.kl().mean() / latents.mean[0].numel()
            reconstruction = error.abs().mean() + error.square().mean()
            trainer.step(number, reconstruction + DIVERGENCE_WEIGHT * divergence)
        model.eval()
        _, images = SceneStream(seed, scenes=512).batch(512)
        with torch.no_grad():
            latents = model.encode(images).latent_dist.mean  # type: ignore[union-attr]
        model.register_to_config(
            scaling_factor=round(1 / latents.std().item(), 4), shift_factor=round(latents.mean().item(), 4)
        )
    return model


def _crowded(random: np.random.Generator, count: int) -> torch.Tensor:
    """Drawings [count, 3, 32, 32] in -1 to 1 with an object in every cell."""
    scenes = []
    for _ in range(count):
        kinds = random.permutation(len(KINDS))
        items = [Item(cell, KINDS[kinds[cell]], str(random.choice(COLOURS))) for cell in range(len(CELLS))]
        scenes.append(Scene(tuple(items), str(random.choice(BACKGROUNDS))))
    return to_model_range(render_all(scenes, int(random.integers(2**31))))
