"""The reference paths of scorers: PIL image in, uint8 [3, size, size] out, by Pillow's own resize, crop and paste."""

import numpy as np
import torch
from PIL import Image
from prefmill.kernels.pixels.plan import PixelTarget


def by_pillow(image: Image.Image, target: PixelTarget) -> torch.Tensor:
    """Resize with bicubic, then crop as torchvision or transformers do, or pad first as LLaVA-1.5 does."""
    width, height = image.size
    size = target.size
    if target.fit == "pad":
        side = max(width, height)
        square = Image.new("RGB", (side, side), target.padding)
        square.paste(image, ((side - width) // 2, (side - height) // 2))
        done = square.resize((size, size), Image.Resampling.BICUBIC)
    else:
        tall = width <= height
        resized = (size, int(size * height / width)) if tall else (int(size * width / height), size)
        image = image.resize(resized, Image.Resampling.BICUBIC)
        excess = [side - size for side in image.size]
        left, top = (round(e / 2.0) for e in excess) if target.centre == "torchvision" else (e // 2 for e in excess)
        done = image.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(done)).permute(2, 0, 1)
