"""Images as they are shown on a page: small, and for a report inside of it, so that it is one file."""

from __future__ import annotations

import base64
import io

from ..engine.images import UnreadableImage, decode_image

THUMBNAIL = 224  # pixels, longer side


def thumbnail(data: bytes) -> str | None:
    """Return an image as a data address of a small JPEG, None where it cannot be read."""
    try:
        return "data:image/jpeg;base64," + base64.b64encode(small_jpeg(data)).decode()
    except UnreadableImage:
        return None


def small_jpeg(data: bytes, side: int = THUMBNAIL, *, max_pixels: int = 100_000_000) -> bytes:
    """Return an image as a JPEG whose longer side has at most `side` pixels.

    Raises UnreadableImage as `decode_image` does, too_large for more than `max_pixels`.
    """
    image = decode_image(data, max_pixels=max_pixels)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
