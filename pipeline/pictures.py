"""Stored image files to pictures that a model's tower can be fed: what cannot is the end of its row, not of the run."""

from __future__ import annotations

from PIL import Image

from ..engine.images import UnreadableImage, decode_image

LONGEST = 200
"""Towers resize the shorter side to a fixed length, so a strip of 2 x 3,000,000 would become gigabytes."""


def decode_picture(data: bytes) -> Image.Image:
    """Decode an image file. Raises UnreadableImage: see `decode_image`; too_large for a strip as well."""
    image = decode_image(data)
    if max(image.size) > LONGEST * min(image.size):
        width, height = image.size
        raise UnreadableImage("too_large", f"{width} x {height} pixels: one side is over {LONGEST} times the other")
    return image
