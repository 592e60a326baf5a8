"""Half of a surrogate pair: JSON can spell it, but it is no character, and UTF-8 cannot hold it.

Data and settings with one are refused. What models and servers write is mended, since the rest of it is an answer.
"""

from __future__ import annotations

BROKEN = "holds half of a surrogate pair, which is no character"


def is_encodable(text: str) -> bool:
    """Return whether UTF-8 can hold a text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def encodable(text: str) -> str:
    """Return a text that UTF-8 can hold: the halves of a pair joined, a half alone replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
