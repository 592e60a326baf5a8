"""Answers that were paid for, kept from the moment they arrive: a killed run asks none of them again.

An answer is found by the caller's name for its request and by the digest of all that it depends on (`query.py`), so
a changed model, server, text or sampling never gets an old one. Only the places of answers are held in memory.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..interface import Answer, Failure, Reply
from .ledger import Ledger
from .query import Query

FILE = "answers.jsonl"


class Journal:
    """The answers in a folder. Raises PrefmillError where it cannot be read or written."""

    def __init__(self, folder: Path) -> None:
        self._ledger = Ledger(folder / FILE)
        self._places = {
            str(value["key"]): place
            for place, value in self._ledger.lines()
            if isinstance(value, dict) and "key" in value
        }

    def __len__(self) -> int:
        return len(self._places)

    def get(self, query: Query) -> Reply | None:
        """Return the reply that was kept for a query, None where there is none."""
        place = self._places.get(query.key)
        return None if place is None else _decoded(self._ledger.read(place), query.key)

    def keep(self, query: Query, reply: Reply) -> None:
        """Keep a reply before anybody relies on it."""
        kind = "answer" if isinstance(reply, Answer) else "failure"
        self._places[query.key] = self._ledger.append({"key": query.key, kind: asdict(reply)})

    def sync(self) -> None:
        """Have all replies on the disk before going on."""
        self._ledger.sync()

    def close(self) -> None:
        """Let go of the file."""
        self._ledger.close()


def _decoded(value: Any, key: str) -> Reply | None:
    if not isinstance(value, dict) or value.get("key") != key:
        return None
    try:
        return Answer(**value["answer"]) if "answer" in value else Failure(**value["failure"])
    except (KeyError, TypeError):  # of another version of us: it is asked again
        return None
