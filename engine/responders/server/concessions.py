"""Parameters that a server turned out not to take: left out from then on, and said once each.

Models differ under one format (reasoning models take no temperature, some servers no schema), and no list of them
lasts. What a refusal names, and the format can do without, is left out; everything else refuses the row.
"""

from __future__ import annotations

import re
from typing import Any

from .dialect import Dialect

_NOT_TAKEN = re.compile(
    r"unsupported|not (?:yet )?support|n't support|not permitted|not allowed|deprecated|unknown|unrecognized|"
    r"unexpected|cannot both|incompatible|not available|invalid schema",
    re.IGNORECASE,
)
_ALSO_CALLED = {"response_format": "json_schema|structured output|guided", "output_config": "json_schema|structured"}


class Concessions:
    """What one server has refused so far. `notices` are for the screen and the manifest."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.left_out: set[str] = set()
        self.notices: list[str] = []

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a body without what the server does not take."""
        kept = {}
        for name, value in body.items():
            if name not in self.left_out:
                kept[name] = value
            elif other := self.dialect.renamed.get(name):
                kept[other] = value
        return kept

    def learn(self, sent: dict[str, Any], message: str) -> bool:
        """Return whether a body that was refused with `message` would now be sent otherwise."""
        if not self.left_out.isdisjoint(sent):
            return True  # sent before another refusal was heard
        if not _NOT_TAKEN.search(message):
            return False
        for name, other in self.dialect.renamed.items():
            if name in sent and other in message:
                self.left_out.add(name)  # the same by another name: nothing to announce
                return True
        for name, consequence in self.dialect.optional.items():
            if name in sent and re.search(rf"\b(?:{name}|{_ALSO_CALLED.get(name, name)})\b", message):
                self.left_out.add(name)
                self.notices.append(f"the server does not take {name}: {consequence} ({message[:200]})")
                return True
        return False
