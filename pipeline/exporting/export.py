"""A run's pairs, preferences or scores, written as others read them (`catalogue.py` has the formats).

Images pass through one at a time, so the size of the run does not matter. The output appears under its name only when
it is whole: it is written beside it first and renamed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ...base.errors import PrefmillError
from ...base.files import make_folder, replacing
from ...base.paths import user_path
from ..store import Run
from .catalogue import format_named
from .lineage import TRAIN, Lineage
from .tally import RowTally
from .writer import SHARD_BYTES, ExportFormat, Target


@dataclass(frozen=True)
class Exported:
    """What was exported and where: rows by split, different images, what was left out by reason.

    `untied`: pairs of images without a preference between them that a ranking had to order.
    """

    run: Run
    format: ExportFormat
    rows: dict[str, int]
    images: int
    left_out: dict[str, int]
    untied: int
    path: Path
    tally: RowTally = field(repr=False)


Finish = Callable[[Exported, Path], None]
"""Adds to a finished export before it appears: what was exported, and the folder to write to."""


def export(
    run: Run,
    output: Path,
    format: str,
    *,
    eval_share: float = 0.0,
    shard_bytes: int = SHARD_BYTES,
    finish: Finish | None = None,
) -> Exported:
    """Write a run to `output`, which must not exist yet, in one of the formats.

    `eval_share` of the prompts goes to the split `test`: those that a training with the same `eval_share` holds out.
    `shard_bytes` bounds the files of a folder. `finish` is called for a folder, not for a single file.

    Raises PrefmillError when there is nothing to export, an image is missing, a split would be empty, the output exists
    or cannot be written; nothing is left of it then.
    """
    output, found = user_path(output, "--to"), format_named(format)
    if output.exists() or output.is_symlink():
        raise PrefmillError(f"{output} exists already", "choose another --to, or delete it first")
    if not 0 <= eval_share <= 0.5:
        raise PrefmillError(f"a held-out share of {eval_share:g} is not between 0 and 0.5", "give --eval-share 0.05")
    make_folder(output.parent)
    single = found.single and output.suffix == ".parquet"
    rows = found.rows(run, Lineage(run, eval_share))
    first = next(rows, None)  # what there is nothing of is named before anything is written
    with replacing(output) as temporary:
        tally = RowTally()
        with found.writer(Target(temporary, single, shard_bytes)) as writer:
            while first is not None:
                tally.add(writer.add(first))
                first = next(rows, None)
        _refuse_empty(run, writer.rows, writer.left_out, eval_share)
        counts = dict(writer.rows), len(writer.images.names), dict(writer.left_out), writer.untied
        exported = Exported(run, found, *counts, output, tally)
        if finish and not single:
            finish(exported, temporary)
    return exported


def _refuse_empty(run: Run, rows: dict[str, int], left_out: dict[str, int], eval_share: float) -> None:
    total = sum(rows.values())
    if not total:
        told = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise PrefmillError(f"no prompt of {run.folder} has a ranking ({told})", "--format image-pairs")
    if eval_share and len(rows) < 2:
        kept = rows.get(TRAIN, 0)
        raise PrefmillError(
            f"--eval-share {eval_share:g} would hold out {total - kept} of {total} rows, in whole prompts",
            "give another --eval-share, or leave it away",
        )
