"""The control of a preference training: the same pairs with chosen and rejected exchanged at random.

If training on these changes as much as training on the real ones, the change came from training as such, and not from
the preferences.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..pipeline.records import Pair, content_id
from ..pipeline.shards import Footer, write_shard
from ..pipeline.store import Run


def shuffled_run(run: Run, folder: Path, seed: int = 0) -> Run:
    """Make (or find) a run with the pairs of `run`, half of them exchanged, and its images."""
    control = Run(folder)
    if control.has("pairs"):
        return control
    pairs = list(run.dataset("pairs", Pair))
    # exactly half: a coin per pair would leave a preference behind
    exchanged = set(np.random.default_rng(seed).permutation(len(pairs))[: len(pairs) // 2].tolist())
    rows = [_exchanged(pair) if number in exchanged else pair for number, pair in enumerate(pairs)]
    (folder / "pairs").mkdir(parents=True, exist_ok=True)
    write_shard(folder / "pairs", 0, len(rows), Pair, rows, Footer(work="shuffled"))
    if not (folder / "candidates").exists():
        (folder / "candidates").symlink_to((run.folder / "candidates").resolve())
    fingerprint = content_id("shuffled", run.manifest("pairs").get("fingerprint"), seed)
    control.write_manifest("pairs", {**run.manifest("pairs"), "fingerprint": fingerprint})
    return control


def _exchanged(pair: Pair) -> Pair:
    return replace(
        pair,
        id=content_id("exchanged", pair.id),
        chosen=pair.rejected,
        rejected=pair.chosen,
        chosen_id=pair.rejected_id,
        rejected_id=pair.chosen_id,
        margin=None if pair.margin is None else -pair.margin,
    )
