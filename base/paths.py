"""Paths as users write them, checked where they come in: no system call further down ends in a traceback then."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from .errors import PrefmillError


def user_path(text: str | Path, option: str) -> Path:
    """Return a path that a user gave for `option`, with `~` expanded; nothing need be there.

    Raises PrefmillError for an address of an object store, an empty one, a NUL, half a surrogate pair, an unknown
    `~user`, a name that is too long, links in a circle, and a folder that may not be entered.
    """
    written = str(text)
    path = Path(written)
    if re.match(r"[a-z0-9]+://", written):
        raise PrefmillError(
            f"{option} is {written.partition('://')[0]}://..., and this takes a folder",
            "fetch it first: prefmill pull ADDRESS --to FOLDER",
        )
    try:
        if not written:
            raise ValueError("it is empty")
        path = path.expanduser()
        path.stat()
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR):
            return path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        shown = written if len(written) <= 80 else f"{written[:77]}..."
        raise PrefmillError(f"{option} {shown!r} is no usable path: {reason}", f"correct {option}") from error
    return path
