"""Workers on machines that do not see the coordinator's folder: rows, rejects and bytes are those of one process."""

from dataclasses import replace
from functools import partial

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.bench.sleeping import NAME, sleeping_task
from prefmill.pipeline.execute.crew import StageOrder
from prefmill.pipeline.execute.local import run_tasks
from prefmill.pipeline.execute.units import UnitWorker
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.objects import outpost
from prefmill.pipeline.objects.outpost import Outpost, WorkerShare, follow, pulled
from prefmill.pipeline.objects.share import holding
from prefmill.pipeline.records import Score
from prefmill.pipeline.store import Dataset, Run


class ElsewhereCrew:
    """One worker in this process, with the run's folder where another machine would have it."""

    engine = "elsewhere"

    worker: UnitWorker

    def __init__(self, folder):
        self.folder, self.events = folder, []

    def size(self):
        return 1

    def warm(self):
        pass

    def start(self, order: StageOrder):
        elsewhere = replace(order, folder=str(self.folder / NAME), again=partial(sleeping_task, self.folder))
        self.worker = UnitWorker(elsewhere)
        self.events.append(("one", self.worker.ready()))
        return "one"

    def submit(self, worker, unit):
        self.events.append((worker, self.worker.make(unit)))

    def collect(self, seconds):
        events, self.events = self.events, []
        return events

    def stop(self, worker, *, spent):
        self.worker.close()

    def close(self):
        pass


def shards(folder):
    return {path.name: path.read_bytes() for path in (folder / NAME).glob("*.parquet")}


def test_a_worker_elsewhere(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(outpost, "open_bucket", lambda _: bucket)
    config = ExecutorConfig(unit_seconds=0.0, commit_seconds=0)
    crew = ElsewhereCrew(tmp_path / "elsewhere")
    with holding(bucket, tmp_path / "here", seconds=60, every=60) as share, Run.writing(share.folder) as run:
        run.sharing = share
        run_tasks(run, [sleeping_task(share.folder)], config, Progress(), crew=crew)
        staged = set(bucket.names("staged"))
        share.publish()
        entries = {path: entry.object for path, entry in share.log.files.items() if path.endswith(".parquet")}
        assert set(entries.values()) <= staged  # the workers' own bytes became part of the run: none was put again
        assert len(entries) == 10
    with Run.writing(tmp_path / "plain") as run:
        run_tasks(run, [sleeping_task(run.folder)], config, Progress())
    assert shards(tmp_path / "here") == shards(tmp_path / "plain")
    assert not list((tmp_path / "elsewhere" / NAME / "_staged").iterdir())
    follow(bucket, tmp_path / "there")
    assert shards(tmp_path / "there") == shards(tmp_path / "plain")
    assert list(Dataset(tmp_path / "there" / NAME, Score).rejects())


def test_a_worker_beside_its_coordinator_uses_the_folder(bucket, tmp_path):
    with holding(bucket, tmp_path / "here", seconds=60, every=60) as share:
        assert Outpost.of(share.for_workers(), share.folder, ()) is None
        assert Outpost.of(None, tmp_path / "here", ()) is None


def test_only_what_a_stage_reads_is_fetched(bucket, tmp_path):
    names = ["run.yaml", "a/_manifest.json", "a/1.parquet", "b/_manifest.json", "b/1.parquet", "training/model.bin"]
    with holding(bucket, tmp_path / "here", seconds=60, every=60) as share:
        for name in names:
            (share.folder / name).parent.mkdir(exist_ok=True)
            (share.folder / name).write_text(name)
        share.publish()
        Outpost(bucket, tmp_path / "there", share.log.epoch, ["a"]).fetch()
        Outpost(bucket, tmp_path / "there", share.log.epoch, ["b"]).fetch()
    found = {
        path.relative_to(tmp_path / "there").as_posix()
        for path in (tmp_path / "there").rglob("[!.]*")
        if path.is_file()
    }
    assert found == set(names) - {"training/model.bin"}


def test_a_coordinators_folder_is_not_followed_into(bucket, tmp_path):
    with holding(bucket, tmp_path / "here", seconds=60, every=60) as share:
        (share.folder / "run.yaml").write_text("{}")
        with pytest.raises(PrefmillError, match="is in use by process"):
            follow(bucket, share.folder)
        with pytest.raises(PrefmillError, match="is this machine's copy of"):
            Outpost.of(WorkerShare("s3://other/run", 1, "x"), share.folder, ())


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(PrefmillError, match="there is no run at file://") as caught:
        pulled(f"file://{tmp_path}/bucket", tmp_path / "here")
    assert "prefmill run tiny --to file://" in caught.value.fix
