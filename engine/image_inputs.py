"""From pictures to what an image tower reads: one place for the constants and the rounding that scores depend on.

The rounding is torchvision's (`Resize` of the shorter side, `CenterCrop`), which all the originals used: the longer
side is cut to a whole number, the crop starts at the rounded half (a half to the even neighbour).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..base.errors import PrefmillError
from ..kernels.pixels.plan import PixelTarget
from ..kernels.pixels.prepare import prepare_pixels
from .checkpoint import read_config
from .images import refuse_elongated

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ImagePreprocessing:
    """How one model wants its images: side in pixels, mean and deviation per channel (of values from 0 to 1).

    `squash` resizes to the square without regard to the aspect ratio, `letterbox` fits the whole image into it on
    black; else the shorter side is resized and the middle is cut out.
    """

    size: int
    mean: tuple[float, float, float] = PIXEL_MEAN
    deviation: tuple[float, float, float] = PIXEL_DEVIATION
    squash: bool = False
    letterbox: bool = False

    @classmethod
    def of_folder(
        cls, folder: Path, size: int, *, squash: bool = False, letterbox: bool = False
    ) -> "ImagePreprocessing":
        """The mean and deviation that the folder's image processor states; CLIP's where it states none.

        Raises PrefmillError where what it states is broken.
        """
        stated: dict[str, Any] = {}
        for name in ("processor_config.json", "preprocessor_config.json"):
            if (folder / name).is_file():
                content = read_config(folder, name)
                inner = content.get("image_processor", content)
                stated |= inner if isinstance(inner, dict) else {}
        mean, deviation = stated.get("image_mean", PIXEL_MEAN), stated.get("image_std", PIXEL_DEVIATION)
        try:
            (r, g, b), (spread_r, spread_g, spread_b) = (map(float, values) for values in (mean, deviation))
        except (TypeError, ValueError) as error:
            raise PrefmillError(
                f"the image processor in {folder} states mean {mean!r} and deviation {deviation!r}.",
                "give three numbers each, as the published model has them",
            ) from error
        return cls(size, (r, g, b), (spread_r, spread_g, spread_b), squash, letterbox)

    def pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Images to pixels [B, 3, S, S], float32 on the CPU; host work only, safe in a worker thread.

        Raises PrefmillError without images, UnreadableImage too_elongated.
        """
        if not images:
            raise PrefmillError("there are no images to preprocess.", "give at least one image")
        fit = squashed if self.squash else letterboxed if self.letterbox else resized_and_cropped
        values = torch.from_numpy(np.stack([fit(image, self.size) for image in images]))
        scaled = values.permute(0, 3, 1, 2).float().div_(255)
        mean, deviation = (torch.tensor(channel).view(1, 3, 1, 1) for channel in (self.mean, self.deviation))
        return scaled.sub_(mean).div_(deviation)

    def decoded_pixels(self, images: torch.Tensor) -> torch.Tensor:
        """Decoded images [B, 3, H, W], uint8 or float in -1 to 1, to pixels [B, 3, S, S] on their own device.

        The same bits on every device. An image that is not finite becomes pixels of NaN. Raises PrefmillError for what
        `to_pictures` refuses.
        """
        check_decoded(images)
        whole = self.squash or (self.letterbox and images.shape[2] != images.shape[3])  # what the kernel cannot do
        if whole or images.device.type == "cpu":  # where Pillow itself is the quickest
            pixels = self.pixels(to_pictures(images)).to(images.device)
        else:
            pixels = prepare_pixels(images, [self.target])[0]
        if not images.is_floating_point():
            return pixels
        return pixels.masked_fill(~images.isfinite().flatten(1).all(1).view(-1, 1, 1, 1), math.nan)

    def differentiable_pixels(self, images: torch.Tensor) -> torch.Tensor:
        """Float images [B, 3, H, W] in -1 to 1 to pixels [B, 3, S, S], with a gradient.

        Pillow's filter without its rounding to 8 bits. Raises PrefmillError for what `check_decoded` refuses.
        """
        check_decoded(images)
        height, width = images.shape[2:]
        refuse_elongated(width, height)
        shorter = min(height, width)
        sizes = [self.size if self.squash else int(self.size * side / shorter) for side in (height, width)]
        values = images.float() / 2 + 0.5
        if sizes != [height, width]:
            values = torch.nn.functional.interpolate(values, sizes, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = (round((side - self.size) / 2.0) for side in sizes)
        values = values[:, :, top : top + self.size, left : left + self.size]
        mean, deviation = (values.new_tensor(channel).view(1, 3, 1, 1) for channel in (self.mean, self.deviation))
        return (values - mean) / deviation

    @property
    def target(self) -> PixelTarget:
        """The same as the kernel that prepares pixels on a device takes it; cropped only, never squashed or padded."""
        return PixelTarget(self.size, self.mean, self.deviation, centre="torchvision")


def resized_and_cropped(image: Image.Image, size: int) -> np.ndarray:
    """The middle square, uint8 [S, S, 3], after a bicubic resize of the shorter side to `size`.

    Raises UnreadableImage too_elongated.
    """
    width, height = image.size
    refuse_elongated(width, height)
    resized = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    image = _rgb(image).resize(resized, Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2.0) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def squashed(image: Image.Image, size: int) -> np.ndarray:
    """The whole image as a square, uint8 [S, S, 3]; bicubic."""
    return np.asarray(_rgb(image).resize((size, size), Image.Resampling.BICUBIC))


def letterboxed(image: Image.Image, size: int) -> np.ndarray:
    """The whole image in the middle of a black square, uint8 [S, S, 3], after a bicubic resize of the longer side.

    Raises UnreadableImage too_elongated.
    """
    width, height = image.size
    refuse_elongated(width, height)
    scale = size / max(width, height)
    resized = _rgb(image).resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC
    )
    square = Image.new("RGB", (size, size))
    square.paste(resized, ((size - resized.width) // 2, (size - resized.height) // 2))
    return np.asarray(square)


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def to_pictures(images: torch.Tensor) -> list[Image.Image]:
    """Decoded images [B, 3, H, W], uint8 or float in -1 to 1, as pictures of 8 bits per channel.

    Floats are rounded to the nearest of 255 levels, as image pipelines do before they write a file; NaN becomes black.
    Raises PrefmillError for another shape or type.
    """
    check_decoded(images)
    if images.is_floating_point():
        images = ((images.float().nan_to_num(-1.0) / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).contiguous().cpu().numpy()]


def check_decoded(images: torch.Tensor) -> None:
    """Raise PrefmillError for tensors that are no decoded images, by their shape and type."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise PrefmillError(f"images must be [batch, 3, height, width], not {list(images.shape)}.", "give RGB images")
    if not images.is_floating_point() and images.dtype != torch.uint8:
        raise PrefmillError(f"images must be uint8 or floating point, not {images.dtype}.", "convert them to uint8")
