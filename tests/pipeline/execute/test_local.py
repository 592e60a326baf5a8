"""The executor: what is missing gets done, once, in fixed batches, whatever interrupted the run before."""

import contextlib
import itertools
import os
import threading

import pyarrow.parquet as pq
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.pipeline import shards
from prefmill.pipeline.execute.local import run_tasks
from prefmill.pipeline.execute.plan import Batch, missing_batches
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.records import Reject, Score
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.sources import ListSource
from prefmill.pipeline.stage import Stage, Task
from prefmill.pipeline.store import Dataset, Run


class Recorded(Progress):
    def __init__(self):
        self.notices, self.advanced = [], 0

    def step(self, name, steps, note=""):
        self.advanced += steps

    def notice(self, text):
        self.notices.append(text)


class Batched(Stage[int, Score]):
    """Scores that betray their batch (as floating point does), two rows per input, every seventh input rejected."""

    model_keys = ("batched@1",)
    calls: list[tuple[int, ...]]

    def __init__(self):
        self.calls = []

    def compute(self, prepared):
        self.calls.append(tuple(prepared))
        return list(prepared)

    def finish(self, computed):
        rows = []
        for number in computed:
            if number % 7 == 3:
                rows.append(Reject(f"input-{number}", "scores", "seventh"))
                continue
            rows += [Score(f"{number}-{part}", "batched", sum(computed) / 3) for part in (0, 1)]
        return rows


def task(stage, count=50, batch_size=4, **config):
    names = [f"input-{number}" for number in range(count)]
    return Task("scores", Score, lambda: ListSource(range(count), names), lambda: stage, batch_size, config)


EAGER = ExecutorConfig(commit_seconds=0)


def run_once(folder, work, config=EAGER, progress=None, discard=False):
    with Run.writing(folder) as run:
        run_tasks(run, [work], config, progress or Progress(), discard=discard)
        return list(run.dataset("scores", Score)), sorted(run.dataset("scores", Score).rejects(), key=str)


def test_rows_rejects_and_manifest_of_a_plain_run(tmp_path):
    stage, progress = Batched(), Recorded()
    rows, rejects = run_once(tmp_path, task(stage), progress=progress)
    assert [row.subject_id for row in rows] == [f"{n}-{part}" for n in range(50) if n % 7 != 3 for part in (0, 1)]
    assert [reject.subject_id for reject in rejects] == sorted(f"input-{n}" for n in range(50) if n % 7 == 3)
    assert stage.calls == [tuple(range(start, min(start + 4, 50))) for start in range(0, 50, 4)]
    assert progress.advanced == 50
    manifest = Run.open(tmp_path).manifest("scores")
    assert (manifest["complete"], manifest["inputs"], manifest["outputs"]) == (True, 50, 86)
    assert manifest["rejects"] == {"seventh": 7}
    assert manifest["models"] == ["batched@1"]
    assert manifest["versions"]["torch"]
    assert manifest["hardware"]["cpu"]


def test_a_complete_run_builds_no_stage(tmp_path):
    first = run_once(tmp_path, task(Batched()))
    before = sorted(path.name for path in (tmp_path / "scores").glob("*.parquet"))
    stage = Batched()
    assert run_once(tmp_path, task(stage)) == first
    assert stage.calls == []
    assert sorted(path.name for path in (tmp_path / "scores").glob("*.parquet")) == before


class Crash(BaseException):
    """Stands for SIGKILL and power loss: nothing in the program may handle it."""


def crash_at(monkeypatch, count):
    """Let the `count`-th file operation of the store never happen, nor any after it."""
    calls = {"left": count, "dead": False}

    def guard(real):
        def operation(*arguments, **keywords):
            calls["left"] -= 1
            if calls["left"] < 0 or calls["dead"]:
                calls["dead"] = True
                raise Crash
            return real(*arguments, **keywords)

        return operation

    monkeypatch.setattr(shards.os, "fsync", guard(os.fsync))
    monkeypatch.setattr(shards.pq, "write_table", guard(shards.pq.write_table))
    monkeypatch.setattr(shards.Path, "replace", guard(shards.Path.replace))
    return calls


def crashed_folders(tmp_path, monkeypatch, work):
    """Yield a folder in which `work` died at the first, second, third ... write, sync or rename, until it does not."""
    for point in itertools.count():
        folder = tmp_path / f"crash-{point}"
        with monkeypatch.context() as patch:
            calls = crash_at(patch, point)
            with contextlib.suppress(Crash):
                work(folder)
        if not calls["dead"]:
            return
        yield folder


def test_a_crash_at_every_single_file_operation_ends_in_the_same_rows(tmp_path, monkeypatch):
    """Dies at the first, second, third ... write, sync or rename; every time the next run completes the same rows."""
    expected = run_once(tmp_path / "undisturbed", task(Batched(), count=20))
    points = 0
    for folder in crashed_folders(tmp_path, monkeypatch, lambda folder: run_once(folder, task(Batched(), count=20))):
        for shard in Dataset(folder / "scores", Score).shards:
            assert shard.is_intact()
        assert run_once(folder, task(Batched(), count=20)) == expected
        points += 1
    assert points >= 25  # five shards and three manifests, three or four operations each


def test_a_resumed_run_computes_only_what_is_missing_in_the_same_batches(tmp_path):
    stage = Batched()
    expected = run_once(tmp_path, task(stage))
    committed = Dataset(tmp_path / "scores", Score).shards
    for shard in (committed[2], committed[-1]):
        shard.path.unlink()
    again = Batched()
    assert run_once(tmp_path, task(again)) == expected
    assert again.calls == [stage.calls[2], stage.calls[-1]]


def test_a_damaged_shard_is_named_set_aside_and_made_again(tmp_path):
    expected = run_once(tmp_path, task(Batched()))
    victim = Dataset(tmp_path / "scores", Score).shards[3]
    data = bytearray(victim.path.read_bytes())
    data[100] ^= 255
    victim.path.write_bytes(data)
    progress = Recorded()
    assert run_once(tmp_path, task(Batched()), progress=progress) == expected
    assert any(victim.path.name in notice and "damaged" in notice for notice in progress.notices)
    assert (tmp_path / "scores" / "_set-aside" / f"damaged-{victim.path.name}").read_bytes() == bytes(data)


def test_inputs_that_grow_add_rows_and_touch_no_old_shard(tmp_path):
    run_once(tmp_path, task(Batched(), count=20))
    before = {shard.path.name for shard in Dataset(tmp_path / "scores", Score).shards}
    stage = Batched()
    rows, _ = run_once(tmp_path, task(stage, count=30))
    assert before < {shard.path.name for shard in Dataset(tmp_path / "scores", Score).shards}
    assert [number for call in stage.calls for number in call] == list(range(20, 30))
    assert len(rows) == 2 * sum(number % 7 != 3 for number in range(30))


def test_changed_inputs_make_their_shard_out_of_date(tmp_path):
    run_once(tmp_path, task(Batched(), count=20))
    names = [f"input-{number}" for number in range(20)]
    names[9] = "another"
    stage, progress = Batched(), Recorded()
    changed = Task("scores", Score, lambda: ListSource(range(20), names), lambda: stage, 4, {})
    before = sorted((tmp_path / "scores").iterdir())
    with pytest.raises(PrefmillError, match="are no longer what 6 of its rows were made from") as caught:
        run_once(tmp_path, changed, progress=progress)
    assert "--discard" in caught.value.fix
    assert (sorted((tmp_path / "scores").iterdir()), stage.calls) == (before, [])
    run_once(tmp_path, changed, progress=progress, discard=True)
    assert stage.calls == [(8, 9, 10, 11)]
    assert any("out-of-date" in notice for notice in progress.notices)


def test_another_configuration_is_refused_and_named(tmp_path):
    run_once(tmp_path, task(Batched(), guidance=[5, 7]))
    with pytest.raises(PrefmillError, match=r"guidance was \[5, 7\], now \[3\]") as error:
        run_once(tmp_path, task(Batched(), guidance=[3]))
    assert "--remake scores" in error.value.fix


def test_other_weights_are_refused(tmp_path):
    run_once(tmp_path, task(Batched(), count=20))
    other = Batched()
    other.model_keys = ("batched@2",)
    with pytest.raises(PrefmillError, match=r"begun with batched@1, but now there is batched@2"):
        run_once(tmp_path, task(other, count=30))


def test_ctrl_c_keeps_what_was_computed(tmp_path):
    class Interrupted(Batched):
        def compute(self, prepared):
            if prepared[0] == 24:
                raise KeyboardInterrupt
            return super().compute(prepared)

    with pytest.raises(KeyboardInterrupt):
        run_once(tmp_path, task(Interrupted()), ExecutorConfig(commit_seconds=1000))
    assert [(shard.start, shard.stop) for shard in Dataset(tmp_path / "scores", Score).shards] == [(0, 24)]


def test_an_error_in_a_stage_keeps_the_batches_before_it(tmp_path):
    class Failing(Batched):
        def compute(self, prepared):
            if prepared[0] == 24:
                raise PrefmillError("out of memory", "--set batch_size=1")
            return super().compute(prepared)

    with pytest.raises(PrefmillError, match="out of memory"):
        run_once(tmp_path, task(Failing()), ExecutorConfig(commit_seconds=1000))
    kept = Dataset(tmp_path / "scores", Score).shards
    assert kept[-1].stop == 24


def test_host_work_overlaps_the_device(tmp_path):
    """The next batch is prepared, and the last one finished, while a batch computes: each waits for the other."""

    class Overlapping(Batched):
        def __init__(self):
            super().__init__()
            self.prepared, self.finished = threading.Semaphore(0), threading.Semaphore(0)

        def prepare(self, inputs):
            self.prepared.release()
            return inputs

        def compute(self, prepared):
            first = prepared[0]
            if first == 4:
                assert self.prepared.acquire(timeout=10)  # batch 0
                assert self.prepared.acquire(timeout=10)  # batch 1
                assert self.prepared.acquire(timeout=10), "batch 2 was not prepared while batch 1 computed"
                assert self.finished.acquire(timeout=10), "batch 0 was not finished while batch 1 computed"
            return super().compute(prepared)

        def finish(self, computed):
            self.finished.release()
            return super().finish(computed)

    run_once(tmp_path, task(Overlapping()))


def test_shards_stay_within_their_size(tmp_path):
    run_once(tmp_path, task(Batched()), ExecutorConfig(commit_seconds=1000, commit_bytes=2000))
    sizes = [len(Dataset(tmp_path / "scores", Score).read(0, 1000)), len(Dataset(tmp_path / "scores", Score).shards)]
    assert sizes == [86, 7]  # 200 bytes a row, at most eight rows a batch: every second of 13 batches passes 2,000


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ([], [(0, 4), (4, 8), (8, 10)]),
        ([(0, 4)], [(4, 8), (8, 10)]),
        ([(0, 6)], [(6, 8), (8, 10)]),
        ([(4, 8)], [(0, 4), (8, 10)]),
        ([(0, 10)], []),
        ([(0, 4), (8, 10)], [(4, 8)]),
    ],
)
def test_missing_batches_are_cut_at_multiples_of_the_batch_size(tmp_path, done, expected):
    for start, stop in done:
        write_shard(tmp_path, start, stop, Score, [], Footer("w"))
    found = list(missing_batches(Dataset(tmp_path, Score).shards, 10, 4))
    assert found == [Batch(start, stop) for start, stop in expected]


def test_a_stage_opens_as_a_table_in_any_parquet_reader(tmp_path):
    run_once(tmp_path, task(Batched()))
    victim = Dataset(tmp_path / "scores", Score).shards[0]
    Dataset(tmp_path / "scores", Score).set_aside(victim, "damaged")
    run_once(tmp_path, task(Batched()))
    assert pq.read_table(tmp_path / "scores").num_rows == 86
