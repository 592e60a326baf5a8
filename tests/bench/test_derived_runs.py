"""Runs of other runs' pairs: pairs that prefer nothing, and subsets that contain each other."""

from typing import Any

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.bench.derived_runs import indifferent_run, subset_run
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


def test_the_control_has_half_of_the_pairs_in_both_orders(run, tmp_path):
    control = pairs_of(indifferent_run(run, tmp_path / "control"))
    assert len(control) == 40
    for pair, exchanged in zip(control[::2], control[1::2], strict=True):
        assert pair in PAIRS
        assert (exchanged.chosen, exchanged.rejected) == (pair.rejected, pair.chosen)
        assert (exchanged.chosen_id, exchanged.rejected_id) == (pair.rejected_id, pair.chosen_id)
        assert exchanged.margin == -(pair.margin or 0)
        assert exchanged.image_id == pair.image_id
    assert len({pair.id for pair in control}) == 40
    assert control[::2] != PAIRS[:20], "the first ones are not a random sample"
    assert (tmp_path / "control" / "candidates").resolve() == (run.folder / "candidates").resolve()
    assert pairs_of(indifferent_run(run, tmp_path / "control")) == control
    assert pairs_of(indifferent_run(run, tmp_path / "other", seed=1)) != control


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
        indifferent_run(run, tmp_path / "control")
    assert not (tmp_path / "control" / "pairs").exists()
    assert len(pairs_of(indifferent_run(run, tmp_path / "control"))) == 40
