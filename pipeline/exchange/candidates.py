"""Imported images to candidates: each is read, decoded once to see that all of it is there, and kept as it is.

An image's id is the hash of its bytes and its prompt's id, so the same picture is the same candidate wherever its
file lies. The second one of a kind is a reject that names its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from ...base.tables.table import BadRow
from ..records import Candidate, Prompt, Reject, Selection, content_id
from ..sources import ListSource
from ..stage import Stage
from ..store import Run
from .image_files import dimensions
from .images import ImageInputs, ImageRow, rejected

STAGE = "candidates"
PICKS = "picks"  # which image of a prompt the input calls the best: answers often name their prompt only
BATCH = 16


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """A row with the prompt it belongs to in this run."""

    row: ImageRow
    prompt_id: str | None


class PromptLookup:
    """The run's prompts, found by the names that other tables give them."""

    def __init__(self, run: Run) -> None:
        prompts = run.dataset("prompts", Prompt)
        ids, texts = prompts.column("id"), prompts.column("text")
        self.texts: dict[str, str] = dict(zip(ids, texts, strict=True))
        self.names: dict[str, str] = dict(zip(prompts.column("source"), ids, strict=True)) | {key: key for key in ids}
        self.by_text: dict[str, str] = dict(zip(reversed(texts), reversed(ids), strict=True))  # the first one wins
        asked = prompts.column("instructions")
        # of several an answer must name its own
        self.instructions = {key: one[0] for key, one in zip(ids, asked, strict=True) if len(one) == 1}

    def resolve(self, name: str | None, text: str | None) -> str | None:
        """Return a prompt's id, None where the row names none. Raises BadRow unknown_prompt, prompt_conflict."""
        if name is None:
            if text is None:
                return None
            if text not in self.by_text:
                raise BadRow("unknown_prompt", f"no accepted prompt of this run reads {text[:60]!r}")
            return self.by_text[text]
        if name not in self.names:
            raise BadRow("unknown_prompt", f"this run has no prompt {name!r}")
        found = self.names[name]
        if text is not None and text != self.texts[found]:
            raise BadRow("prompt_conflict", f"prompt {name!r} reads {self.texts[found][:60]!r}, here {text[:60]!r}")
        return found


def candidate_source(run: Run, images: ImageInputs) -> ListSource[ImageEntry]:
    """Return the rows with their prompts, keyed by everything that a candidate depends on."""
    prompts = PromptLookup(run)
    entries = [_entry(row, prompts) for row in images.rows]
    return ListSource(entries, [_key(entry, images) for entry in entries])


def _entry(row: ImageRow, prompts: PromptLookup) -> ImageEntry:
    if row.fault:
        return ImageEntry(row, None)
    try:
        return ImageEntry(row, prompts.resolve(row.prompt_name, row.prompt_text))
    except BadRow as fault:
        return ImageEntry(replace(row, fault=fault), None)


def _key(entry: ImageEntry, images: ImageInputs) -> str:
    row = entry.row
    reason = row.fault.reason if row.fault else None
    settings = (row.source, row.model, row.seed, row.guidance, row.steps)
    return content_id("image row", row.place, entry.prompt_id, reason, *settings, images.stamp(row.path, row.number))


class ImageStage(Stage[ImageEntry, Candidate]):
    """Read and check images. `held`: the ids of the candidates that are committed already."""

    def __init__(self, images: ImageInputs, held: Sequence[str], threads: int) -> None:
        self.images, self.seen, self.notices = images, set(held), images.notices
        self.pool = ThreadPoolExecutor(threads, "decode")

    def prepare(self, inputs: Sequence[ImageEntry]) -> list[tuple[str, Candidate | Reject]]:
        """Read and decode a batch; Pillow decodes outside the interpreter's lock, so threads help."""
        embedded = [self.images.embedded(entry.row) for entry in inputs]
        records = self.pool.map(self._record, inputs, embedded)
        return [(entry.row.place, record) for entry, record in zip(inputs, records, strict=True)]

    def _record(self, entry: ImageEntry, embedded: bytes | None) -> Candidate | Reject:
        row = entry.row
        try:
            data = self.images.read(row, embedded)
            width, height = dimensions(data)
        except BadRow as fault:
            return rejected(row.place, STAGE, fault)
        identity = image_id(data, entry.prompt_id)
        return Candidate(
            identity,
            entry.prompt_id,
            width,
            height,
            data,
            row.model,
            source=row.source,
            seed=row.seed,
            guidance=row.guidance,
            steps=row.steps,
        )

    def compute(self, prepared: Sequence[tuple[str, Candidate | Reject]]) -> list[Candidate | Reject]:
        """Keep the first of equal images."""
        outcome: list[Candidate | Reject] = []
        for place, item in prepared:
            if not isinstance(item, Candidate):
                outcome.append(item)
            elif item.id not in self.seen:
                self.seen.add(item.id)
                outcome.append(item)
            elif not self.images.shared:
                outcome.append(Reject(place, STAGE, "duplicate", f"the same image and prompt as {item.id}"))
        return outcome


def image_id(data: bytes, prompt_id: str | None) -> str:
    """Return the id of an imported image."""
    return content_id("image", data, prompt_id)


def pick_source(run: Run, images: ImageInputs) -> ListSource[Selection]:
    """Return the candidates that the input calls picked, as selections with the value 1."""
    prompts = PromptLookup(run)
    picked = {
        (entry.row.source, entry.prompt_id)
        for entry in map(partial(_entry, prompts=prompts), images.rows)
        if entry.row.picked and not entry.row.fault
    }
    candidates = run.dataset(STAGE, Candidate)
    rows = zip(candidates.column("id"), candidates.column("prompt_id"), candidates.column("source"), strict=True)
    items = [
        Selection(prompt_id, identity, 1.0)
        for identity, prompt_id, source in rows
        if prompt_id is not None and (source, prompt_id) in picked
    ]
    return ListSource(items, [item.image_id for item in items])
