"""Imported answers to instructions and responses: which image is an answer about, and what was asked?

The image is the one the row names; else the one this run selected for the prompt; else the one its images' table
calls picked; else the prompt's only one. Anything else is ambiguous and is not guessed. Answers were often joined to
images by line number, which goes wrong silently when a line is missing; here nothing is joined by position.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ...base.tables.table import BadRow, Row, Table
from ..records import Candidate, Instruction, Reject, Response, Selection, content_id
from ..sources import ListSource, responses_folder
from ..store import Run
from .candidates import PICKS, PromptLookup, image_id
from .images import ImageInputs, rejected
from .row_formats import AnswerSaid, ImageSaid, answer_said, image_said

STAGE = responses_folder("imported")


class ImageLookup:
    """The run's images, found by id, by the path they were imported under, or by their prompt."""

    def __init__(self, run: Run, images: ImageInputs | None) -> None:
        candidates = run.dataset("candidates", Candidate)
        ids, prompts = candidates.column("id"), candidates.column("prompt_id")
        self.prompt_of: dict[str, str | None] = dict(zip(ids, prompts, strict=True))
        self.named: dict[str, list[str]] = defaultdict(list)
        self.drawn: dict[str, list[str]] = defaultdict(list)
        for identity, prompt, source in zip(ids, prompts, candidates.column("source"), strict=True):
            self.named[identity].append(identity)
            if source is not None:
                self.named[source].append(identity)
            if prompt is not None:
                self.drawn[prompt].append(identity)
        self.images = images
        if images and not images.shared:
            for row in images.rows:  # rows that have an id of their own besides their path
                if row.name and row.name != row.source and row.source in self.named:
                    self.named.setdefault(row.name, self.named[row.source])
        self.chosen = [self._by_prompt(run, stage) for stage in ("selections", PICKS)]

    def _by_prompt(self, run: Run, stage: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for selection in run.dataset(stage, Selection):
            found[selection.prompt_id].append(selection.image_id)
        return found

    def by_name(self, name: str, prompt: str | None) -> str:
        """Return the image of that id or path. Raises BadRow unknown_image, ambiguous_image."""
        found = [image for image in self.named.get(name, ()) if prompt is None or self.prompt_of[image] == prompt]
        if not found:
            raise BadRow("unknown_image", f"this run holds no image {name!r}")
        if len(found) > 1:
            raise BadRow("ambiguous_image", f"{len(found)} images are called {name!r}; name one by its image_id")
        return found[0]

    def by_content(self, said: ImageSaid) -> str:
        """Return the image a row of the same table holds or names by path. Raises BadRow no_image and others."""
        assert self.images is not None
        if said.path is not None and not self.images.embeds and len(found := self.named.get(said.path, ())) == 1:
            return found[0]
        identity = image_id(self.images.bytes_of(said.path, said.data), None)
        if identity not in self.prompt_of:
            raise BadRow("no_image", f"its image {said.path or ''} was rejected")
        return identity

    def by_prompt(self, prompt: str) -> str:
        """Return the one image of a prompt that answers can be about. Raises BadRow no_image, ambiguous_image."""
        for found in (*(chosen.get(prompt, []) for chosen in self.chosen), self.drawn.get(prompt, [])):
            if len(found) == 1:
                return found[0]
            if found:
                how = "name the image in the row (image or image_id), or mark one as picked in the images' table"
                raise BadRow("ambiguous_image", f"{len(found)} images of this prompt could be meant; {how}")
        raise BadRow("no_image", "no image of this prompt is in the run")


@dataclass(frozen=True, slots=True)
class AnswerEntry:
    """A row of answers, resolved: the response's id, image and instruction, or why there is none."""

    place: str
    number: int
    response_id: str = ""
    image_id: str = ""
    instruction_id: str = ""
    fault: BadRow | None = None


class AnswerIndex:
    """One table of answers against one run. `images`: those of the same import, where it brings any."""

    def __init__(self, run: Run, table: Table, images: ImageInputs | None) -> None:
        self.run, self.table, self.images = run, table, images

    @cached_property
    def _resolved(self) -> tuple[list[AnswerEntry], dict[str, Instruction]]:
        prompts, lookup = PromptLookup(self.run), ImageLookup(self.run, self.images)
        entries, instructions = list[AnswerEntry](), dict[str, Instruction]()
        seen: dict[str, str] = {}
        for row in self.table.scan():
            try:
                said = answer_said(_readable(row))
                instruction = self._instruction(row, said, prompts, lookup)
                identity = content_id("response", instruction.id, said.model, said.text)
                if identity in seen:
                    raise BadRow("duplicate", f"the same model said the same at {seen[identity]}")
            except BadRow as fault:
                entries.append(AnswerEntry(row.place, row.number, fault=fault))
                continue
            seen[identity] = row.place
            instructions[instruction.id] = instruction
            entries.append(AnswerEntry(row.place, row.number, identity, instruction.image_id, instruction.id))
        return entries, instructions

    def _instruction(self, row: Row, said: AnswerSaid, prompts: PromptLookup, lookup: ImageLookup) -> Instruction:
        prompt = prompts.resolve(said.prompt, None)
        image = self._image(row, said, prompt, lookup)
        owner = prompt or lookup.prompt_of[image]
        text = said.question or (prompts.instructions.get(owner) if owner else None)
        if not text or not text.strip():
            raise BadRow("no_instruction", "neither the row nor its prompt says what was asked")
        return Instruction(content_id("instruction", image, text), image, text, "imported")

    def _image(self, row: Row, said: AnswerSaid, prompt: str | None, lookup: ImageLookup) -> str:
        if self.images and self.images.shared:  # the table of answers brings its images itself
            fields = self.table.rows(row.number, row.number + 1)[0].fields if self.images.embeds else row.fields
            return lookup.by_content(image_said(fields) or ImageSaid(None, None))
        if said.image is not None:
            return lookup.by_name(said.image, prompt)
        if prompt is None:
            raise BadRow("no_image", "the row names neither an image nor a prompt_id")
        return lookup.by_prompt(prompt)

    def instructions(self) -> ListSource[Instruction]:
        """Return what was asked, once per image and text."""
        items = list(self._resolved[1].values())
        return ListSource(items, [item.id for item in items])

    def responses(self) -> AnswerSource:
        """Return the answers, read when a batch needs them."""
        return AnswerSource(self.table, self._resolved[0])


@dataclass(frozen=True)
class AnswerSource:
    """A table's rows as responses and rejects."""

    table: Table
    entries: Sequence[AnswerEntry]

    def __len__(self) -> int:
        return len(self.entries)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return what the rows' outputs depend on."""
        return [entry.response_id or _fault_key(entry) for entry in self.entries[start:stop]]

    def read(self, start: int, stop: int) -> Sequence[Response | Reject]:
        """Return the records of a range of rows."""
        rows = self.table.rows(start, stop)
        return [self._record(entry, row) for entry, row in zip(self.entries[start:stop], rows, strict=True)]

    def _record(self, entry: AnswerEntry, row: Row) -> Response | Reject:
        if entry.fault:
            return rejected(entry.place, STAGE, entry.fault)
        said = answer_said(row.fields)
        return Response(entry.response_id, entry.image_id, entry.instruction_id, said.model, said.text)


def _readable(row: Row) -> dict[str, object]:
    if row.fault:
        raise row.fault
    return row.fields


def _fault_key(entry: AnswerEntry) -> str:
    assert entry.fault is not None
    return content_id("answer row", entry.place, entry.fault.reason, entry.fault.detail)
