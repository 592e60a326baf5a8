"""Replies of models, kept as they come: a writer that was killed asks for none of them again.

One line of JSON is one batch, whole or not there: a model on this machine answers a batch alike only as a whole. A
line that a kill cut short is passed over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ...base.errors import PrefmillError
from ...base.files import reason_of

if TYPE_CHECKING:
    from ...engine.responders.interface import Reply


class ReplyJournal:
    """The replies in a file, by the names of the requests of a batch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: dict[tuple[str, ...], list[dict]] = {}
        try:
            lines = path.read_bytes().split(b"\n") if path.exists() else []
        except OSError as error:
            raise PrefmillError(f"cannot read {path}: {reason_of(error)}", "correct its permissions") from error
        for line in lines:
            try:
                batch = json.loads(line)
                self._kept[tuple(batch["names"])] = batch["replies"]
            except (ValueError, KeyError, TypeError):
                continue

    def find(self, names: Sequence[str]) -> list[Reply] | None:
        """Return the replies to a batch, if they are kept."""
        from ...engine.responders.interface import Answer, Failure  # torch

        kept = self._kept.get(tuple(names))
        if kept is None or len(kept) != len(names):
            return None
        return [Failure(**values) if "reason" in values else Answer(**values) for values in kept]

    def keep(self, names: Sequence[str], replies: Sequence[Reply]) -> None:
        """Append a batch, and have it on the disk before going on. Raises PrefmillError where the disk refuses."""
        line = json.dumps({"names": list(names), "replies": [asdict(reply) for reply in replies]})
        try:
            with self.path.open("ab") as file:
                file.write(b"\n" + line.encode() + b"\n")  # begins anew where a kill cut the line before
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise PrefmillError(
                f"cannot write {self.path}: {reason_of(error)}", "make room, then give the same command again"
            ) from error
