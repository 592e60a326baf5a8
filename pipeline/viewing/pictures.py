"""The images of a run for a browser: small copies, and the stored file itself, which is never held twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from ...engine.images import UnreadableImage, decode_image
from ..thumbnails import small_jpeg
from .entries import MOST_IMAGES, EntryReader

SIDES = {"small": 320, "large": 1024}
"""Pixels of the longer side, by name."""
MOST_BYTES = 48_000_000
"""Of a file that is made smaller here. One that is larger can be asked for as it is."""
MOST_PIXELS = 24_000_000
"""Of an image that is made smaller here: it takes six bytes a pixel meanwhile."""
_AS_THEY_ARE = 262_144  # bytes of a file that is sent as it is where it is no larger than asked for
_KEPT = 24_000_000  # bytes of small copies that are remembered
_KINDS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}


@dataclass(frozen=True)
class Picture:
    """Bytes for a browser; `tag` changes when the stored file does. `data` may be a view of Arrow's memory."""

    data: bytes | memoryview
    media_type: str
    tag: str


class PictureReader:
    """Reads images by id. One large file at a time is in memory, however many are asked for."""

    def __init__(self, entries: EntryReader) -> None:
        self.entries = entries
        self._kept: OrderedDict[tuple[str, str], Picture] = OrderedDict()
        self._one = threading.Lock()

    def read(self, identity: str, size: str) -> Picture | None:
        """Return an image as `small`, `large` or `original`; None where the run has no such image.

        Raises UnreadableImage for one that cannot be made smaller here, PrefmillError for a damaged shard.
        """
        index = self.entries.index
        with index.lock:
            found = self.entries.image_row(identity)
            if found is None:
                return None
            table, row = found
            tag = f"{table.shards[table.rows.place(row)[0]].checksum}-{size}"
            if (kept := self._kept.get((identity, tag))) is not None:
                return kept
            [known] = table.read([row], ("width", "height"))
            stored = table.stored_size(row, "image")
        if size != "original":
            _refuse_large(stored, known["width"], known["height"])
        with self._one:
            data = table.read_large(row, "image")
            picture = Picture(data, media_type(data), tag) if size == "original" else _smaller(data, known, size, tag)
        if size != "original":
            self._keep((identity, tag), picture)
        return picture

    def tags(self, entry: int) -> dict[str, str]:
        """Return, by the images' ids, what changes when the stored file does: browsers may keep such an address."""
        found = {}
        for table in self.entries.index.named("candidates"):
            rows = table.rows.of(entry)[:MOST_IMAGES]
            for row, named in zip(rows, table.read(rows, ("id",)), strict=False):
                found[named["id"]] = table.shards[table.rows.place(int(row))[0]].checksum
        return found

    def _keep(self, key: tuple[str, str], picture: Picture) -> None:
        with self.entries.index.lock:
            self._kept[key] = picture
            while sum(len(own.data) for own in self._kept.values()) > _KEPT:
                self._kept.popitem(last=False)


def _refuse_large(stored: int, width: int, height: int) -> None:
    if stored > MOST_BYTES:
        raise UnreadableImage("too_large", f"{stored / 1e6:.0f} MB")
    if width * height > MOST_PIXELS:
        raise UnreadableImage("too_large", f"{width} x {height} pixels")


def _smaller(data: memoryview, known: dict[str, int], size: str, tag: str) -> Picture:
    kind = media_type(data)
    fits = max(known["width"], known["height"]) <= SIDES[size] and len(data) <= _AS_THEY_ARE
    if fits and kind.startswith("image/"):
        decode_image(bytes(data))  # says what is the matter with one that browsers cannot show either
        return Picture(bytes(data), kind, tag)
    return Picture(small_jpeg(bytes(data), SIDES[size], max_pixels=MOST_PIXELS), "image/jpeg", tag)


def media_type(data: bytes | memoryview) -> str:
    """Return what a file is by its first bytes; `application/octet-stream` for all that browsers do not show."""
    start = bytes(data[:16])
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image/webp"
    if start[4:12] == b"ftypavif":
        return "image/avif"
    return next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), "application/octet-stream")
