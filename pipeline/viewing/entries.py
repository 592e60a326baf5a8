"""One entry of a run in full, and the lines of the list: what the page shows, as plain values for JSON."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from ..records import ImagePreference
from ..reporting.annotations import order_of
from .index import RunIndex
from .keys import key_of
from .selection import REACHED, reached
from .tables import StageTable

MOST_IMAGES, MOST_QUESTIONS, MOST_ANSWERS, MOST_RATINGS, MOST_REJECTS = 64, 64, 400, 1000, 60
LONGEST = 20_000  # characters of a text; the export has all of it
_LINE = 300


class EntryReader:
    """Reads entries; whoever calls holds the index's lock. `longest`: characters of a text, None for all of them."""

    def __init__(self, index: RunIndex, longest: int | None = LONGEST) -> None:
        self.index, self.longest = index, longest
        self._owners = -1, np.zeros(0, np.int32)

    def lines(self, entries: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Return the lines of the list for some entries, in their order."""
        index = self.index
        places = reached(index.states[np.asarray(entries, np.int64)])
        names = list(REACHED)
        return [
            self._named(int(entry))
            | {
                "state": names[place] if index.states[entry] else "",
                "image": self._shown_image(int(entry)),
                "pairs": sum(len(table.rows.of(entry)) for table in index.named("pairs")),
                "margin": self._margin(int(entry)),
            }
            for entry, place in zip(entries, places, strict=True)
        ]

    def _named(self, entry: int) -> dict[str, Any]:
        row = int(self.index.prompt_rows[entry])
        if row < 0:
            return {"id": self.index.loose[-1 - row], "number": None, "text": None}
        [table] = self.index.named("prompts")
        found = table.read([row], ("id", "index", "text"))
        if not found:
            return {"id": None, "number": None, "text": None}
        return {"id": found[0]["id"], "number": found[0]["index"], "text": found[0]["text"][:_LINE]}

    def _shown_image(self, entry: int) -> str | None:
        picked = self._picks(entry)
        if picked:
            return next(iter(picked))
        for table in self.index.named("candidates"):
            if found := table.read(table.rows.of(entry)[:1], ("id",)):
                return found[0]["id"]
        return None

    def _picks(self, entry: int) -> dict[str, dict[str, Any]]:
        rows = [*self._rows("picks", entry, _PICK), *self._rows("selections", entry, _PICK)]
        return {row["image_id"]: row for row in rows}

    def _margin(self, entry: int) -> float | None:
        margins = [table.rows.column("margin")[table.rows.of(entry)] for table in self.index.named("pairs")]
        known = [float(value) for own in margins for value in own if not math.isnan(value)]
        return round(max(known), 6) if known else None

    def _rows(self, kind: str, entry: int, columns: Sequence[str], most: int = MOST_ANSWERS) -> list[dict[str, Any]]:
        found = []
        for table in self.index.named(kind):
            for row in table.read(table.rows.of(entry)[:most], columns):
                found.append({"folder": table.folder, **_plain(row, self.longest)})
        return found

    def whole(self, entry: int) -> dict[str, Any]:
        """Return everything a run has of an entry."""
        index = self.index
        answers = self._rows("responses", entry, _ANSWER)
        pairs = self._rows("pairs", entry, _PAIR)
        rejects = self.rejects_of(entry)
        return {
            **self._named(entry),
            "state": list(REACHED)[int(reached(index.states[entry : entry + 1])[0])],
            "prompt": next(iter(self._rows("prompts", entry, _PROMPT)), None),
            "images": self._images(entry),
            "questions": self._questions(entry, answers, pairs, rejects),
            "orders": self._orders(entry),
            "rejects": rejects,
            "cut": any(len(table.rows.of(entry)) > MOST_IMAGES for table in index.named("candidates")),
        }

    def _images(self, entry: int) -> list[dict[str, Any]]:
        picks = self._picks(entry)
        scores: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self._rows("image_scores", entry, _SCORE):
            scores[row.pop("subject_id")].append(row)
        ratings: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self._rows("annotations", entry, _RATING, MOST_RATINGS):
            ratings[row.pop("subject_id")].append(row)
        images = self._rows("candidates", entry, _IMAGE, MOST_IMAGES)
        for row in images:
            row["seed"] = None if row["seed"] is None else str(row["seed"])  # 63 bits; JavaScript has 53
        return [
            row | {"picked": picks.get(row["id"]), "scores": scores[row["id"]], "ratings": ratings[row["id"]]}
            for row in images
        ]

    def _questions(
        self, entry: int, answers: list[dict[str, Any]], pairs: list[dict[str, Any]], rejects: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        scores: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for kind, columns in (("response_scores", _SCORE), ("judgements", _JUDGEMENT)):
            for row in self._rows(kind, entry, columns):
                scores[row.pop("subject_id")].append(row)
        fates = {row["subject_id"]: row["reason"] for row in rejects if row["folder"] in {"pairs", "response_scores"}}
        details = {row["subject_id"]: row["detail"] for row in rejects}
        asked = {row["id"]: row["instruction_id"] for row in answers}
        own_pairs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        imported = []
        for pair in pairs:
            fates |= {pair["chosen_id"]: "chosen", pair["rejected_id"]: "rejected"}
            owner = asked.get(pair["chosen_id"]) or asked.get(pair["rejected_id"])
            (own_pairs[owner] if owner else imported).append(pair)
        own_answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in answers:
            name = row.pop("folder").removeprefix("responses-")
            own_answers[row["instruction_id"]].append(
                row
                | {
                    "responder": name,
                    "scores": scores[row["id"]],
                    "fate": fates.get(row["id"]),
                    "why": details.get(row["id"]),
                }
            )
        found = [
            row
            | {"answers": own_answers.pop(row["id"], []), "pairs": own_pairs[row["id"]], "fate": fates.get(row["id"])}
            for row in self._rows("instructions", entry, _INSTRUCTION, MOST_QUESTIONS)
        ]
        bare = {"id": None, "source": None, "fate": None}
        found += [  # answers whose question cannot be read
            bare | {"image_id": rows[0]["image_id"], "text": None, "answers": rows, "pairs": own_pairs[owner]}
            for owner, rows in own_answers.items()
        ]
        return found + [
            bare | {"image_id": pair["image_id"], "text": pair["instruction"], "answers": [], "pairs": [pair]}
            for pair in imported
        ]

    def _orders(self, entry: int) -> dict[str, list[list[str]]]:
        """The entry's images by aspect, the best first; those that no preference parts stand together."""
        preferences: dict[str, list[Any]] = defaultdict(list)
        for table in self.index.named("image_preferences"):
            for row in table.read(table.rows.of(entry)[:MOST_RATINGS], _PREFERENCE):
                preferences[row["aspect"]].append(ImagePreference(**row))
        return {aspect: order_of(rows) for aspect, rows in sorted(preferences.items())}

    def rejects_of(self, entry: int) -> list[dict[str, Any]]:
        """Return what of an entry went no further, with stage and reason."""
        return self.rejects(np.flatnonzero(self._reject_owners() == entry)[:MOST_REJECTS])

    def _reject_owners(self) -> np.ndarray:
        """The entries of all rejects, looked up anew when the index has changed."""
        if self._owners[0] != self.index.version:
            self._owners = self.index.version, self.index.entries_of(self.index.rejects.keys)
        return self._owners[1]

    def rejects(self, numbers: Sequence[int] | np.ndarray, *, with_entries: bool = False) -> list[dict[str, Any]]:
        """Return rejects by their numbers; with the line of the entry each belongs to, where it has one."""
        found = []
        for number in numbers:
            folder, shard, place = self.index.rejects.place(int(number))
            told = self.index.tables[folder].rejects_of(shard)
            if place >= len(told):
                continue
            reject = told[place]
            row: dict[str, Any] = {"folder": folder, "subject_id": reject.subject_id, "reason": reject.reason}
            row |= {"detail": reject.detail[:LONGEST]}
            if with_entries:
                owner = int(self._reject_owners()[number])
                row["entry"] = self._named(owner) if owner >= 0 else None
            found.append(row)
        return found

    def entry_called(self, identity: str) -> int | None:
        """Return the entry of an id: a prompt's, or an image's that has none; None where there is no such one."""
        entry = self.index.entry_of(identity)
        return entry if entry >= 0 and self._named(entry)["id"] == identity else None

    def image_row(self, identity: str) -> tuple[StageTable, int] | None:
        """Return the table and the row of an image; None where there is none."""
        entry, key = self.index.maps["images"].get(identity), key_of(identity)
        for table in self.index.named("candidates") if entry >= 0 else ():
            for row in table.rows.of(entry):
                if table.rows.column("id")[row] == key and table.read([row], ("id",)) == [{"id": identity}]:
                    return table, int(row)
        return None


def _plain(row: dict[str, Any], longest: int | None) -> dict[str, Any]:
    """A row as JSON takes it: numbers that are none become null, long texts are cut, maps become objects."""
    return {key: _value(key, value, longest) for key, value in row.items()}


def _value(key: str, value: Any, longest: int | None) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str) and longest is not None and len(value) > longest:
        return value[:longest] + " ..."
    if isinstance(value, list) and key == "attributes":
        return {name: _value(name, own, longest) for name, own in value}
    return value


_PROMPT = ("id", "index", "text", "source", "topic")
_IMAGE = ("id", "prompt_id", "width", "height", "model", "source", "seed", "guidance", "steps")
_PICK = ("image_id", "value", "margin")
_SCORE = ("subject_id", "scorer", "value", "truncated", "attributes")
_JUDGEMENT = ("subject_id", "judge", "value", "truncated", "attributes", "reason")
_RATING = ("subject_id", "annotator", "aspect", "rating", "reason", "position", "presentation")
_PREFERENCE = tuple(field.name for field in fields(ImagePreference))
_INSTRUCTION = ("id", "image_id", "text", "source")
_ANSWER = ("id", "image_id", "instruction_id", "model", "text", "finish_reason", "tokens")
_PAIR = ("id", "image_id", "instruction", "chosen", "rejected", "chosen_id", "rejected_id", "margin", "source")
