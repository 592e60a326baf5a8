"""Topics of text-to-image prompts: the ten of PDS-DPO's paper, the five that its data added later, and one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...base.errors import PrefmillError
from .grammar import Grammar
from .wording import TOPICS, Wording

PAPER = (
    *("art", "culinary", "daily-activities", "holidays", "industrial"),
    *("nature", "school", "transportation", "urban", "weather"),
)
LATER = ("animal", "fashion", "home", "plant", "scifi")
START = "prompt"
"""The rule of a topic's grammar that writes a prompt."""


@dataclass(frozen=True)
class Topic:
    """A topic: what it is about and its aspects, for a model; its grammar, where it has one."""

    name: str
    hint: str
    aspects: tuple[str, ...]
    grammar: Grammar | None


def load_topics(names: str, wording: Wording) -> list[Topic]:
    """Return topics by their names, with commas between; `all`, `paper` and `later` stand for several.

    Raises PrefmillError for an unknown one, and for a file that is not as it should be.
    """
    known = wording.topics()
    groups: dict[str, Sequence[str]] = {"all": known, "paper": PAPER, "later": LATER}
    asked = [name.strip() for name in names.split(",")]
    chosen = dict.fromkeys(one for name in asked for one in groups.get(name, [name]))
    if unknown := [name for name in chosen if name not in known]:
        raise PrefmillError(
            f"there is no topic {unknown[0]!r}", f"choose of {', '.join([*groups, *known])}, or write topics/NAME.yaml"
        )
    shared = wording.table("common.yaml")
    return [_topic(name, wording, shared) for name in chosen]


def _topic(name: str, wording: Wording, shared: dict[str, Any]) -> Topic:
    file = f"{TOPICS}/{name}.yaml"
    values, origin = wording.table(file), str(wording.path(file))
    hint, aspects, rules = (values.pop(key, None) for key in ("hint", "aspects", "grammar"))
    if values:
        raise PrefmillError(f"{origin} has {min(values)!r}", "a topic has a hint, aspects and a grammar")
    if not isinstance(hint, str) or not hint.strip():
        raise PrefmillError(f"{origin} has no hint", "say in a sentence what the topic is about: hint: ...")
    if not isinstance(aspects, list) or not aspects or not all(isinstance(one, str) for one in aspects):
        raise PrefmillError(f"{origin} has no list of aspects", "aspects: [one, another]")
    if rules is not None and (not isinstance(rules, dict) or START not in rules):
        raise PrefmillError(f"{origin}: its grammar has no rule {START!r}", f"grammar: {{{START}: [...]}}")
    grammar = None if rules is None else Grammar({**shared, **rules}, origin)
    return Topic(name, " ".join(hint.split()), tuple(aspects), grammar)
