"""What an import knows of its images before it reads them: a folder's files, or the rows of a table.

Rows are narrow (names and settings, no bytes), so that a folder of any size takes little memory. Bytes are read where
a batch needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...base.errors import PrefmillError
from ...base.tables.formats import is_table_folder, open_table
from ...base.tables.table import BadRow, Row, Table
from ..prompts import PromptsConfig, prompt_from
from ..records import Prompt, Reject
from .image_files import list_images, listing, locate, side_text
from .row_formats import (
    IMAGE_FIELDS,
    PICKED_FIELDS,
    PROMPT_FIELDS,
    QUESTION_FIELDS,
    first_of,
    image_said,
    integer_in,
    number_in,
    text_in,
    typed,
)


@dataclass(frozen=True, slots=True)
class ImageRow:
    """What the input says about one image. `name` is the row's own id; `number` its row in the table."""

    place: str
    number: int
    path: str | None = None
    name: str | None = None
    prompt_name: str | None = None
    prompt_text: str | None = None
    topic: str | None = None
    instruction: str | None = None
    model: str = "imported"
    seed: int | None = None
    guidance: float | None = None
    steps: int | None = None
    picked: bool = False
    fault: BadRow | None = None

    @property
    def source(self) -> str:
        """What the candidate can be found by again: its path as written, its id, or its place."""
        return self.path or self.name or self.place


@dataclass(frozen=True)
class ImageInputs:
    """The images of one import. `shared`: rows may have an image in common; it is taken once, without a reject."""

    rows: Sequence[ImageRow]
    root: Path
    identity: dict[str, str]
    table: Table | None = None
    shared: bool = False
    notices: tuple[str, ...] = ()

    @property
    def embeds(self) -> bool:
        """Whether the table may hold the bytes itself."""
        return self.table is not None and self.table.embeds

    def embedded(self, row: ImageRow) -> bytes | None:
        """Return the bytes the table itself holds for a row. Cheap only in the order of the rows."""
        if self.table is None or not self.table.embeds or row.fault:
            return None
        said = image_said(self.table.rows(row.number, row.number + 1)[0].fields)
        return said.data if said else None

    def read(self, row: ImageRow, embedded: bytes | None) -> bytes:
        """Return the bytes of a row's image. Raises BadRow with the reason that there are none."""
        if row.fault:
            raise row.fault
        return self.bytes_of(row.path, embedded)

    def bytes_of(self, path: str | None, embedded: bytes | None) -> bytes:
        """Return an image's bytes from the table or from its file. Raises BadRow no_image and those of `locate`."""
        if embedded is not None:
            return embedded
        if not path:
            raise BadRow("no_image", f"none of the fields {', '.join(IMAGE_FIELDS)}")
        return locate(self.root, path).read()

    def stamp(self, path: str | None, number: int) -> str:
        """Return what changes when the bytes of an image do, without reading them."""
        if self.embeds:
            return f"{self.identity['sha256']}:{number}"
        try:
            return locate(self.root, path).stamp if path else ""
        except BadRow as fault:
            return fault.reason

    @cached_property
    def prompts(self) -> list[Prompt | Reject]:
        """The prompts that come with the images, once each, in order of their first image."""
        items: list[Prompt | Reject] = []
        seen: set[str] = set()
        limit = PromptsConfig().max_characters
        for row in self.rows:
            key = row.prompt_name or row.prompt_text
            if row.prompt_text is None or key is None or key in seen:
                continue
            seen.add(key)
            fields = {"text": row.prompt_text, "id": row.prompt_name, "topic": row.topic}
            item = prompt_from({**fields, "instruction": row.instruction}, len(seen), row.place, limit)
            items.append(item)
        return items


def image_inputs(path: Path, root: Path | None) -> ImageInputs:
    """Return the images of a folder, or of a table whose rows name or hold them.

    Raises PrefmillError when there is no such file, or nothing in it that names an image.
    """
    if path.is_dir() and not is_table_folder(path):
        return _folder(path.resolve())
    table = open_table(path, "--images")
    rows = [_described(typed(row) if table.untyped else row) for row in table.scan()]
    if all(row.fault or not (row.path or table.embeds) for row in rows):
        fields = dict.fromkeys(name for row in table.rows(0, 100) for name in row.fields)
        raise PrefmillError(
            f"{path} names no images: its rows have the fields {', '.join(fields) or '(none readable)'}",
            f"give rows with one of {', '.join(IMAGE_FIELDS)}",
        )
    return ImageInputs(rows, image_root(table.folder, root), identity_of(table, table.kind), table)


def images_beside(table: Table, root: Path | None, identity: dict[str, str]) -> ImageInputs:
    """Return the images that the rows of a table of pairs or answers are about, each path once."""
    rows, seen = [], set[str]()
    for row in table.scan():
        image = _plain(row)
        if not table.embeds:
            if image.fault or image.path is None or image.path in seen:
                continue  # the row itself is rejected where pairs or answers are made of it
            seen.add(image.path)
        rows.append(image)
    return ImageInputs(rows, image_root(table.folder, root), identity, table, shared=True)


def image_root(folder: Path, root: Path | None) -> Path:
    """Return the folder that relative image paths are in, resolved: `root`, else `folder`.

    Raises PrefmillError where it is none.
    """
    folder = (root or folder).resolve()
    if not folder.is_dir():
        raise PrefmillError(f"{folder} is not a folder", "correct the path given with --root")
    return folder


def identity_of(table: Table, format: str) -> dict[str, str]:
    """Return what names a table's content on any machine."""
    return {"name": table.name, "format": format, "sha256": table.sha256}


def _folder(root: Path) -> ImageInputs:
    names, others = list_images(root)
    if not names:
        raise PrefmillError(f"{root} holds no images ({others} other files)", "give a folder with image files")
    rows = [_in_folder(root, number, name) for number, name in enumerate(names)]
    content = "".join(listing(names, root)).encode("utf-8", "surrogateescape")
    identity = {"name": root.name, "format": "folder", "sha256": sha256(content).hexdigest()}
    notices = (f"{others} files in {root.name} are neither images nor texts; not imported",) if others else ()
    return ImageInputs(rows, root, identity, notices=notices)


def _in_folder(root: Path, number: int, name: str) -> ImageRow:
    row = ImageRow(name, number, path=name)
    try:
        name.encode()
        return replace(row, prompt_text=side_text(root, name))
    except UnicodeEncodeError:
        return replace(row, path=None, fault=BadRow("unsafe_path", "the file name is not UTF-8"))
    except BadRow as fault:
        return replace(row, fault=fault)


def _plain(row: Row) -> ImageRow:
    try:
        if row.fault:
            raise row.fault
        said = image_said(row.fields)
        return ImageRow(row.place, row.number, said.path if said else None, text_in(row.fields, ("id",)))
    except BadRow as fault:
        return ImageRow(row.place, row.number, fault=fault)


def _described(row: Row) -> ImageRow:
    image, fields = _plain(row), {} if row.fault else row.fields
    try:
        settings: dict[str, Any] = {
            "prompt_name": text_in(fields, ("prompt_id",)),
            "prompt_text": _prompt_text(fields),
            "topic": text_in(fields, ("topic", "category")),
            "instruction": text_in(fields, QUESTION_FIELDS),
            "model": text_in(fields, ("model",)) or "imported",
            "seed": integer_in(fields, "seed"),
            "guidance": number_in(fields, "guidance"),
            "steps": integer_in(fields, "steps"),
            "picked": any(fields.get(name) is True for name in PICKED_FIELDS),
        }
    except BadRow as fault:
        return replace(image, fault=image.fault or fault)
    return replace(image, **settings)


def _prompt_text(fields: dict[str, Any]) -> str | None:
    text = first_of(fields, PROMPT_FIELDS)
    if text is not None and not isinstance(text, str):
        raise BadRow("unknown_prompt", f"the prompt is a {type(text).__name__}, not text")
    return text


def rejected(place: str, stage: str, fault: BadRow) -> Reject:
    """Return the reject of a row that cannot be used."""
    return Reject(place, stage, fault.reason, fault.detail)
