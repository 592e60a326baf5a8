"""Texts from models and files on their way to a screen: what would steer a terminal is shown instead of done."""

from __future__ import annotations

import re

# C0, DEL and C1 controls; line and paragraph separators; marks, embeddings, overrides and isolates of direction;
# half of a surrogate pair, which no encoding takes
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def printable(text: str, keep: str = "") -> str:
    r"""Return a text in one line that a terminal only prints: escape sequences, control and direction characters shown.

    They become `\n`, `\u001b`, `\u202e`. All other text stays as it is, backslashes too. JSON so treated is the same
    JSON. `keep` names characters to let through, such as "\n" where a text of several lines is meant.
    """
    return _STEERING.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(character: str) -> str:
    return _SHORT.get(character) or f"\\u{ord(character):04x}"
