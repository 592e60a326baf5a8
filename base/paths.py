"""Paths that people write, on a command line or in a recipe."""

from __future__ import annotations

from pathlib import Path

from .errors import PrefmillError


def user_path(text: str) -> Path:
    """Return a path as it was written, with `~` filled in; whether it exists is another question.

    Raises PrefmillError for one that no file system takes: too long, with a NUL, of an unknown user.
    """
    try:
        if "\0" in text:
            raise ValueError("it holds a NUL")
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        shown = repr(text if len(text) <= 80 else f"{text[:77]}...")
        reason = getattr(error, "strerror", None) or str(error)
        raise PrefmillError(f"{shown} cannot be a path: {reason}", "correct it") from error
    return path
