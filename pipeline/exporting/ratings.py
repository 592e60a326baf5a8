"""What annotators said of an image, as the columns of an export."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ..records import Annotation

RATING = [
    *(("annotator", pa.string()), ("aspect", pa.string()), ("rating", pa.int64()), ("reason", pa.string())),
    *(("position", pa.int64()), ("presentation", pa.int64())),
]


def rating(one: Annotation) -> dict[str, Any]:
    """Return the values of `RATING`."""
    return {name: getattr(one, name) for name, _ in RATING}
