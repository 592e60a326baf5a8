"""The formats of `prefmill export`, by name."""

from __future__ import annotations

from ...base.errors import PrefmillError
from . import hpdv2, image_pairs, image_reward, llama_factory, llava, ms_swift, pds_dpo, scores, trl, verl, webdataset
from .writer import ExportFormat

_MODULES = (trl, pds_dpo, llava, llama_factory, ms_swift, verl, webdataset, image_pairs, image_reward, hpdv2, scores)
FORMATS: dict[str, ExportFormat] = {module.FORMAT.name: module.FORMAT for module in _MODULES}


def format_named(name: str) -> ExportFormat:
    """Return a format. Raises PrefmillError for an unknown name."""
    if name not in FORMATS:
        raise PrefmillError(f"there is no export format {name!r}", f"choose --format {', '.join(FORMATS)}")
    return FORMATS[name]
