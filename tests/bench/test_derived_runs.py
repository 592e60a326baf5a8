"""Runs of other runs' pairs: an exchange that leaves no preference, and subsets that contain each other."""

from dataclasses import replace
from typing import Any

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.bench.derived_runs import shuffled_run, subset_run
from prefmill.pipeline.records import Pair
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run

PAIRS = [Pair(f"p{n}", f"i{n}", "ask", f"good {n}", f"bad {n}", f"g{n}", f"b{n}", 1.0 + n) for n in range(40)]


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "pairs").mkdir(parents=True)
    (folder / "candidates").mkdir()
    write_shard(folder / "pairs", 0, len(PAIRS), Pair, PAIRS, Footer("w", ()))
    Run(folder).write_manifest("pairs", {"complete": True, "outputs": len(PAIRS), "fingerprint": "f"})
    return Run(folder)


def pairs_of(run) -> list[Any]:
    return list(run.dataset("pairs", Pair))


def test_exactly_half_of_the_pairs_are_exchanged(run, tmp_path):
    control = pairs_of(shuffled_run(run, tmp_path / "control"))
    exchanged = [pair for pair in control if pair.chosen.startswith("bad")]
    assert len(control) == 40
    assert len(exchanged) == 20
    for pair in exchanged:
        original = next(each for each in PAIRS if each.chosen_id == pair.rejected_id)
        assert (pair.chosen, pair.rejected) == (original.rejected, original.chosen)
        assert pair.margin == -(original.margin or 0)
        assert pair.id != original.id
    assert sum(pair.margin > 0 for pair in control) == 20
    assert (tmp_path / "control" / "candidates").resolve() == (run.folder / "candidates").resolve()
    assert pairs_of(shuffled_run(run, tmp_path / "control")) == control
    assert pairs_of(shuffled_run(run, tmp_path / "other", seed=1)) != control


def test_of_every_images_pairs_half_are_exchanged(run, tmp_path):
    sizes = [2, 3, 1, 5, 4, 1, 24]
    images = [f"i{image}" for image, size in enumerate(sizes) for _ in range(size)]
    rows = [replace(pair, image_id=image) for pair, image in zip(PAIRS, images, strict=True)]
    write_shard(run.folder / "pairs", 0, len(rows), Pair, rows, Footer("w", ()))
    kept = [pair.image_id for pair in pairs_of(shuffled_run(run, tmp_path / "control")) if pair.margin > 0]
    assert len(kept) == 20
    for image, size in enumerate(sizes):
        assert kept.count(f"i{image}") in {size // 2, size - size // 2}


def test_a_larger_subset_holds_every_smaller_one(run, tmp_path):
    drawn = {count: subset_run(run, tmp_path / str(count), count, seed=3) for count in (5, 10, 40)}
    ids = {count: {pair.id for pair in pairs_of(part)} for count, part in drawn.items()}
    assert [len(each) for each in ids.values()] == [5, 10, 40]
    assert ids[5] < ids[10] < ids[40]
    assert ids[5] != {pair.id for pair in PAIRS[:5]}, "the first ones are not a random sample"
    assert drawn[5].manifest("pairs")["outputs"] == 5
    assert len({part.manifest("pairs")["fingerprint"] for part in drawn.values()}) == 3


def test_a_run_that_another_process_writes_to_is_left_alone(run, tmp_path):
    with Run.writing(tmp_path / "control"), pytest.raises(PrefmillError, match="is in use by process"):
        shuffled_run(run, tmp_path / "control")
    assert not (tmp_path / "control" / "pairs").exists()
    assert len(pairs_of(shuffled_run(run, tmp_path / "control"))) == 40
