"""Image files of other people: found without leaving their folder, read whole, and told apart by their bytes.

A path in somebody's table is not trusted: it may climb out of the folder, be absolute, or be a link that leads
elsewhere. Such a path is refused before anything is opened. Bytes are kept as they are in the file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from ...base.errors import PrefmillError
from ...base.tables.table import BadRow
from ...engine.images import UnreadableImage, decoded

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"})
MAXIMUM_BYTES = 1 << 30  # nothing that decodes to 100 megapixels is larger
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
    (b"P5", ".pgm"),
    (b"P6", ".ppm"),
)


@dataclass(frozen=True)
class ImageFile:
    """A regular file inside its root folder. `stamp` (size and time of change) changes with its bytes."""

    path: Path
    size: int
    stamp: str

    def read(self) -> bytes:
        """Return the bytes. Raises BadRow image_too_large, file_unreadable."""
        if self.size > MAXIMUM_BYTES:
            raise BadRow("image_too_large", f"{self.size:,} bytes, at most {MAXIMUM_BYTES:,}")
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise BadRow("file_unreadable", error.strerror or str(error)) from error


def locate(root: Path, name: str) -> ImageFile:
    """Return the file `name` inside `root` (resolved). Raises BadRow unsafe_path, file_missing."""
    if "\0" in name or PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
        raise BadRow("unsafe_path", f"{name!r} is not a path inside the image folder")
    if ".." in PurePosixPath(name.replace("\\", "/")).parts:
        raise BadRow("unsafe_path", f"{name!r} climbs out of its folder with ..")
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise BadRow("unsafe_path", f"{name!r} is a link that leads out of the image folder")
        status = path.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = getattr(error, "strerror", None) or str(error)
        raise BadRow("file_missing", f"{name!r} in {root.name}: {reason}") from error
    if not stat.S_ISREG(status.st_mode):
        raise BadRow("file_missing", f"{name!r} is not a regular file")
    return ImageFile(path, status.st_size, f"{status.st_size}:{status.st_mtime_ns}")


def dimensions(data: bytes) -> tuple[int, int]:
    """Decode an image to see that all of it is there; return (width, height) in pixels. Raises BadRow image_*."""
    try:
        with decoded(data) as image:
            return image.size
    except UnreadableImage as error:
        raise BadRow(f"image_{error.reason}", error.detail) from error


def list_images(root: Path) -> tuple[list[str], int]:
    """Return the names of all image files under a folder, sorted, and how many other files there are.

    Folders that are links are listed as names too, so that they end as a reject instead of being passed by.
    Raises PrefmillError for a folder that cannot be listed.
    """
    names: list[str] = []
    others = 0
    for folder, folders, files in os.walk(root, onerror=_refuse):
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        images = [name for name in files if Path(name).suffix.lower() in SUFFIXES]
        others += sum(Path(name).suffix.lower() not in {*SUFFIXES, ".txt"} for name in files)
        names += [(here / name).relative_to(root).as_posix() for name in [*images, *links]]
    return sorted(names), others


def side_text(root: Path, name: str) -> str | None:
    """Return the text of the .txt file beside an image, without the line end; None where there is none or no text.

    Raises BadRow for a path that leaves the folder, and for text that is not UTF-8.
    """
    beside = str(PurePosixPath(name).with_suffix(".txt"))
    if not (root / beside).exists():
        return None
    data = locate(root, beside).read()
    try:
        return data.decode("utf-8-sig").rstrip("\r\n") or None
    except UnicodeDecodeError as error:
        raise BadRow("binary", f"{beside} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def suffix_of(data: bytes) -> str:
    """Return the file suffix that fits an image's bytes, whatever its file was called."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    if data[4:12] == b"ftypavif":
        return ".avif"
    return next((suffix for signature, suffix in _SIGNATURES if data.startswith(signature)), ".img")


def listing(names: list[str], root: Path) -> Iterator[str]:
    """Yield one line per file, with its size: what a folder of images is identified by, without reading them."""
    for name in names:
        try:
            yield f"{name} {locate(root, name).size}\n"
        except BadRow as fault:
            yield f"{name} {fault.reason}\n"


def _refuse(error: OSError) -> None:
    raise PrefmillError(f"cannot list {error.filename}: {error.strerror}", "correct its permissions") from error
