"""Processes that run out of something: money, disk, the folder itself. What was made stays, and is continued."""

import contextlib
import subprocess
import time

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.bench.sleeping import NAME, Trouble, begun_in
from prefmill.pipeline.budget import Budget, BudgetSpent
from prefmill.pipeline.ledger import DeviceLedger, DeviceTime, totals
from prefmill.pipeline.records import Score
from prefmill.pipeline.store import Dataset

from .test_processes import brought, crew, expected

__all__ = ["crew", "expected"]


def test_a_budget_ends_a_stage_and_a_larger_one_continues_it(tmp_path, crew):
    bought = Budget(1.2 / 3600)  # all batches take two seconds
    with pytest.raises(BudgetSpent, match=r"stopped before scores, with everything before it committed"):
        brought(tmp_path, crew, budget=bought, seconds=0.2)
    begun, taken = begun_in(tmp_path), totals(DeviceLedger(tmp_path))
    assert len(begun) < 10
    assert sorted(begun) == [shard.start for shard in Dataset(tmp_path / NAME, Score).shards]  # none was broken off
    with pytest.raises(BudgetSpent, match=r"next unit of scores takes about|is spent"):
        brought(tmp_path, crew, budget=bought, seconds=0.2)
    assert totals(DeviceLedger(tmp_path)) == taken  # no model was loaded to find that out
    rows, rejects = brought(tmp_path, crew, budget=Budget(1.0))
    assert (len(rows), len(rejects)) == (68, 6)
    assert sorted(begun_in(tmp_path)) == list(range(0, 40, 4))


def test_a_budget_that_is_smaller_than_a_unit_is_said_before_anything_is_loaded(tmp_path, crew):
    tmp_path.mkdir(exist_ok=True)
    DeviceLedger(tmp_path).add(  # an earlier call's: a minute to load, ten seconds an input
        DeviceTime(stage=NAME, what="loading", seconds=60, began=0),
        DeviceTime(stage=NAME, what="work", seconds=40, began=1, units=4),
    )
    with pytest.raises(BudgetSpent, match=r"next unit of scores takes about 0.02778 device hours.* 0.02222 .* left"):
        brought(tmp_path, crew, budget=Budget(180 / 3600))
    assert begun_in(tmp_path) == []


@pytest.mark.parametrize("where", ["a stage's own files", "the run's folder"])
def test_a_full_disk_ends_the_stage_and_the_same_command_continues_it(tmp_path, crew, expected, where):
    """Of the run's folder it is the file system's own word: a worker cannot make its shard there."""
    place = tmp_path / "run"
    if where == "the run's folder":
        with mounted(place, "128k"):
            with pytest.raises(PrefmillError, match=f"cannot write {place}.*No space left on device"):
                brought(place, crew, count=40_000, batch=4_000)
            assert len(list(Dataset(place / NAME, Score))) % 2 == 0  # what is there can be read
        return
    with pytest.raises(PrefmillError, match="cannot write /tmp/cache: No space left on device") as caught:
        brought(place, crew, trouble=Trouble("full", 21, once=True))
    assert "make room" in (caught.value.fix or "")
    assert begun_in(place).count(20) == 1  # another worker would fare no better
    assert brought(place, crew) == expected


@contextlib.contextmanager
def mounted(place, size):
    """A file system of so many bytes, where this process may mount one."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_folder_that_vanishes_under_workers_is_named_and_continued_when_it_is_back(tmp_path, crew, expected):
    place = tmp_path / "run"
    with pytest.raises(PrefmillError, match=f"{place}.*No such file or directory"):
        brought(place, crew, trouble=Trouble("vanish", 21, once=True))
    assert not place.exists()
    (tmp_path / "elsewhere").rename(place)
    assert brought(place, crew) == expected


def test_a_clock_that_is_set_back_changes_nothing(tmp_path, crew, expected, monkeypatch):
    """Seconds are taken from a clock that only goes forward; that of the day may be wrong, on any machine."""
    day = iter([1.7e9, 5.0])
    monkeypatch.setattr(time, "time", lambda: next(day, 1.0))
    assert brought(tmp_path, crew) == expected
    pieces = list(DeviceLedger(tmp_path))
    assert sum(piece.units for piece in pieces) == 40
    assert 0 <= totals(pieces)[NAME].seconds < 60
