"""What exported image files are called: safe everywhere, and no two alike."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from ..exchange.image_files import suffix_of
from ..records import Candidate

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class ImageNames:
    """`names` maps the ids of the images named so far to their file names."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._taken: set[str] = set()

    def name(self, image: Candidate) -> str:
        """Return a file name that is safe everywhere, and no other image's: from its source where it has one."""
        if image.id not in self.names:
            suffix = suffix_of(image.image)
            # a generated image's source is its prompt, which has other images too: those are told apart by their ids
            stem = _UNSAFE.sub("-", PurePosixPath(image.source or "").stem).strip(".-")[:100]
            wanted = [stem, f"{stem}-{image.id[:8]}", image.id] if stem else [image.id]
            # compared in lower case: some file systems know no other
            free = next((name for name in wanted if name.lower() not in self._taken), f"{stem}-{image.id}")
            self._taken.add(free.lower())
            self.names[image.id] = free + suffix
        return self.names[image.id]
