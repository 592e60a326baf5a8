"""Other people's preferences between images to a run: its prompts, its images, and which image is preferred to which.

What cannot be used is rejected where it shows: an image that is missing leaves the preferences between the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...base.tables.table import BadRow, Row, Table
from ..records import Candidate, ImagePreference, Reject, content_id
from ..stage import Stage
from ..store import Run
from .candidates import PromptLookup, image_id
from .image_files import locate
from .images import ImageInputs, ImageRow, image_root, rejected
from .preference_formats import PreferencesSaid, RankedImage, images_said, preferences_said
from .row_source import RowSource

STAGE = "image_preferences"
BATCH = 16


@dataclass(frozen=True, slots=True)
class PreferenceImageRow(ImageRow):
    """An image of a row that has several: `part` is its number there."""

    part: int = 0


@dataclass(frozen=True)
class PreferenceImages(ImageInputs):
    """The images of a table of preferences."""

    _last: dict[int, tuple[RankedImage, ...]] = field(default_factory=dict)

    def embedded(self, row: ImageRow) -> bytes | None:
        """Return the bytes the table itself holds for an image. Cheap only in the order of the rows."""
        if self.table is None or not self.table.embeds or row.fault or not isinstance(row, PreferenceImageRow):
            return None
        if row.number not in self._last:
            self._last.clear()
            self._last[row.number] = images_said(self.table.rows(row.number, row.number + 1)[0].fields)
        return self._last[row.number][row.part].said.data


def ranked_images(table: Table, root: Path | None, identity: dict[str, str]) -> PreferenceImages:
    """Return every image that a table of preferences names or holds; the same image may be in many rows."""
    rows = [image for row in table.scan() for image in _described(row)]
    return PreferenceImages(rows, image_root(table.folder, root), identity, table, shared=True)


def _described(row: Row) -> Iterator[PreferenceImageRow]:
    try:
        if row.fault:
            raise row.fault
        said = preferences_said(row.fields)
        for part, image in enumerate(said.images):
            yield PreferenceImageRow(
                f"{row.place}#{part}",
                row.number,
                image.said.path,
                prompt_name=said.name if said.name and "generations" in row.fields else None,
                prompt_text=said.prompt,
                model=image.model,
                seed=image.seed,
                guidance=image.guidance,
                steps=image.steps,
                part=part,
            )
    except BadRow:
        return  # the row itself is rejected where preferences are made of it


class PreferenceImportStage(Stage[Row, ImagePreference]):
    """Join rows with their images. `held`: the ids of the preferences that are committed already."""

    def __init__(self, run: Run, images: ImageInputs, held: Sequence[str]) -> None:
        self.images, self.seen, self.prompts = images, set(held), PromptLookup(run)
        candidates = run.dataset("candidates", Candidate)
        self.known = set(candidates.column("id"))
        owners = zip(candidates.column("source"), candidates.column("prompt_id"), strict=True)
        self.by_path = dict(zip(owners, candidates.column("id"), strict=True))

    def prepare(self, inputs: Sequence[Row]) -> list[tuple[Row, PreferencesSaid, str, list[str | None]] | Reject]:
        """Read the rows and find their prompts and images; only embedded ones are hashed again."""
        return [self._find(row) for row in inputs]

    def _find(self, row: Row) -> tuple[Row, PreferencesSaid, str, list[str | None]] | Reject:
        try:
            if row.fault:
                raise row.fault
            said = preferences_said(row.fields)
            prompt = self.prompts.resolve(said.name if "generations" in row.fields else None, said.prompt)
            assert prompt is not None
            return row, said, prompt, [self._image(image, prompt) for image in said.images]
        except BadRow as fault:
            return rejected(row.place, STAGE, fault)

    def _image(self, image: RankedImage, prompt: str) -> str | None:
        """The id of an image of this run, None where it was rejected."""
        path, data = image.said.path, image.said.data
        if data is None and path is not None and (path, prompt) in self.by_path:
            return self.by_path[path, prompt]
        try:
            identity = image_id(data if data is not None else locate(self.images.root, path or "").read(), prompt)
        except BadRow:
            return None
        return identity if identity in self.known else None

    def compute(
        self, prepared: Sequence[tuple[Row, PreferencesSaid, str, list[str | None]] | Reject]
    ) -> list[ImagePreference | Reject]:
        """Make the preferences; one that was there before is a reject."""
        outcome: list[ImagePreference | Reject] = []
        for item in prepared:
            if isinstance(item, Reject):
                outcome.append(item)
                continue
            row, said, prompt, images = item
            found = [pair for one, other in said.better if (pair := (images[one], images[other])) and all(pair)]
            if not found:
                outcome.append(Reject(row.place, STAGE, "no_image", "fewer than two of its images are in the run"))
            for chosen, rejected_ in found:
                outcome.append(self._preference(row, said, prompt, str(chosen), str(rejected_)))
        return outcome

    def _preference(
        self, row: Row, said: PreferencesSaid, prompt: str, chosen: str, rejected_: str
    ) -> ImagePreference | Reject:
        if chosen == rejected_:
            return Reject(row.place, STAGE, "same_image", f"image {chosen} is preferred to itself")
        identity = content_id("image_preference", prompt, said.aspect, chosen, rejected_)
        if identity in self.seen:
            return Reject(row.place, STAGE, "duplicate", f"the same preference as {identity}")
        self.seen.add(identity)
        source = said.name or row.place
        return ImagePreference(identity, prompt, said.prompt, said.aspect, chosen, rejected_, said.margin, source)


def preference_source(table: Table, images: ImageInputs) -> RowSource:
    """Return the rows of a table of preferences."""

    def said(row: Row) -> Sequence[str | None]:
        paths = [image.said.path for image in images_said(row.fields)]
        return repr(row.fields), *(images.stamp(path, row.number) for path in paths)

    return RowSource(table, "preference", said)
