"""Runs made of another run's pairs: what a training is compared with.

`indifferent_run` is the control: half of the pairs, once as they are and once with chosen and rejected exchanged.
If training on these changes as much as training on the pairs themselves, the change came from training as such, and
not from the preferences. `subset_run` holds some of the pairs: how much does more data help?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..pipeline.records import Pair, content_id
from ..pipeline.shards import Footer, write_shard
from ..pipeline.store import Run


def indifferent_run(run: Run, folder: Path, seed: int = 0) -> Run:
    """Make (or find) a run that has as many pairs as `run`, no preference, and its images: half of the pairs, twice.

    Exchanging half of the pairs at random instead leaves preferences by chance, and they teach (docs/micro-world.md).
    """
    pairs = list(run.dataset("pairs", Pair))
    half = np.random.default_rng(seed).permutation(len(pairs))[: (len(pairs) + 1) // 2].tolist()
    rows = [row for number in sorted(half) for row in (pairs[number], _exchanged(pairs[number]))]
    return _derived(run, folder, f"indifferent {seed}", rows)


def subset_run(run: Run, folder: Path, count: int, seed: int = 0) -> Run:
    """Make (or find) a run with `count` of the pairs of `run`, drawn at random, and its images.

    With the same seed a larger subset holds every smaller one.
    """
    pairs = list(run.dataset("pairs", Pair))
    drawn = sorted(np.random.default_rng(seed).permutation(len(pairs))[:count].tolist())
    return _derived(run, folder, f"subset {count} {seed}", [pairs[number] for number in drawn])


def _derived(run: Run, folder: Path, how: str, rows: Sequence[Pair]) -> Run:
    with Run.writing(folder) as derived:
        if not derived.has("pairs"):
            (folder / "pairs").mkdir(exist_ok=True)
            write_shard(folder / "pairs", 0, len(rows), Pair, rows, Footer(work=how))
            if not (folder / "candidates").exists():
                (folder / "candidates").symlink_to((run.folder / "candidates").resolve())
            manifest = run.manifest("pairs")
            fingerprint = content_id("derived", how, manifest.get("fingerprint"))
            derived.write_manifest("pairs", {**manifest, "outputs": len(rows), "fingerprint": fingerprint})
    return Run(folder)


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
