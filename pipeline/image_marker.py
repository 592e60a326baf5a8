"""The `<image>` marker that some formats write into a question: the image travels beside the text here."""

from __future__ import annotations

import re

_MARKER = re.compile(r"\s*<image>\s*")


def without_marker(question: str) -> str:
    """Return a question without the marker, and stripped."""
    return _MARKER.sub(" ", question).strip()
