"""Images as they are shown on a page: small, and inside of it, so that a report is one file."""

from __future__ import annotations

import base64
import io

from ..engine.images import UnreadableImage, decode_image

THUMBNAIL = 224  # pixels, longer side


def thumbnail(data: bytes) -> str | None:
    """Return an image as a data address of a small JPEG, None where it cannot be read."""
    try:
        image = decode_image(data)
    except UnreadableImage:
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
