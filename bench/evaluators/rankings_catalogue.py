"""The benchmarks of human rankings by name, and how a file says which of them it is."""

from __future__ import annotations

from pathlib import Path

from ...base.errors import PrefmillError
from ...base.paths import user_path
from ...base.tables.formats import is_table_folder, open_table
from . import rankings_hpdv2, rankings_imagereward, rankings_pick_a_pic, rankings_run
from .rankings import RankingBenchmark

BENCHMARKS = {
    one.name: one
    for one in (
        rankings_imagereward.BENCHMARK,
        rankings_hpdv2.BENCHMARK,
        rankings_pick_a_pic.BENCHMARK,
        rankings_run.BENCHMARK,
    )
}


def benchmark_of(path: Path, name: str = "auto") -> RankingBenchmark:
    """Return the benchmark of a name, or the one that a file's first row, or a run's folder, belongs to.

    Raises PrefmillError for an unknown name and for a file of none of them.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    if name != "auto":
        raise PrefmillError(f"there is no format {name!r}.", f"choose one of {', '.join(BENCHMARKS)}")
    path = user_path(path, "DATA")
    if path.is_dir() and not is_table_folder(path) | (path / rankings_run.STAGE).is_dir():
        raise PrefmillError(
            f"{path} is a folder without {rankings_run.STAGE} and without a table.",
            "give a run whose images were annotated, or a file of rankings",
        )
    if path.is_dir() and (path / rankings_run.STAGE).is_dir():
        return BENCHMARKS["run"]
    row = next(open_table(path, "DATA").scan())
    if row.fault:
        raise PrefmillError(f"{row.place}: {row.fault.reason}: {row.fault.detail}", "correct this item")
    for benchmark in BENCHMARKS.values():
        if benchmark.recognises(row.fields):
            return benchmark
    raise PrefmillError(
        f"{row.place} holds {', '.join(map(str, row.fields)) or 'no fields'}, which is no ranking that is known.",
        f"name it with --format: {', '.join(BENCHMARKS)}",
    )
