"""Decoded images to what image towers read, in one read of the image."""

from .plan import PixelTarget
from .prepare import OP, prepare_pixels, prepare_pixels_reference

OPS = (OP,)

__all__ = ["OP", "OPS", "PixelTarget", "prepare_pixels", "prepare_pixels_reference"]
