"""Coordinators on machines without a common file system: what one left another continues, and no work is mixed."""

import shutil
import time

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.bench.sleeping import NAME, begun_in, sleeping_task
from prefmill.pipeline.execute.local import run_tasks
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.objects.lease import LEASE
from prefmill.pipeline.objects.log import LeaseLost, Log
from prefmill.pipeline.objects.outpost import follow
from prefmill.pipeline.objects.share import holding
from prefmill.pipeline.records import Score
from prefmill.pipeline.store import Dataset, Run

EVERY_BATCH = ExecutorConfig(commit_seconds=0)


class Killed(BaseException):
    """What a test raises where a kill would strike."""


def content(folder):
    dataset = Dataset(folder / NAME, Score)
    assert all(shard.is_intact() for shard in dataset.shards)
    assert not dataset.conflicts
    return list(dataset), list(dataset.rejects())


def shards(folder):
    return {path.name: path.read_bytes() for path in (folder / NAME).glob("*.parquet")}


def held(bucket, folder, seconds=60.0, every=60.0):
    return holding(bucket, folder, seconds=seconds, every=every)


def work(share, upto=40, after=None):
    """Bring the first inputs of the sleeping run to their end; `after` is called at every notice of progress."""

    class Watching(Progress):
        def step(self, name, steps, note=""):
            if after is not None:
                after()

    with Run.writing(share.folder) as run:
        run.sharing = share
        run_tasks(run, [sleeping_task(share.folder, upto)], EVERY_BATCH, Watching())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run that was never shared."""
    folder = tmp_path_factory.mktemp("plain")
    with Run.writing(folder) as run:
        run_tasks(run, [sleeping_task(folder)], EVERY_BATCH, Progress())
    return folder


def test_what_is_read_elsewhere_is_what_one_machine_makes(bucket, tmp_path, plain):
    with held(bucket, tmp_path / "here") as share:
        work(share)
    assert follow(bucket, tmp_path / "there") > 10
    assert shards(tmp_path / "there") == shards(plain)
    assert content(tmp_path / "there") == content(plain)
    assert Run.open(tmp_path / "there").manifest(NAME)["complete"]


def test_another_machine_continues(bucket, tmp_path, plain):
    with held(bucket, tmp_path / "first") as share:
        work(share, 20)
    with held(bucket, tmp_path / "second") as share:
        work(share)
        assert "files were fetched" in share.notices[0]
    assert shards(tmp_path / "second") == shards(plain)
    assert sorted(begun_in(tmp_path / "second")) == list(range(0, 40, 4))  # the first machine's among them, once
    with held(bucket, tmp_path / "first") as share:  # has an older copy, and nothing in it that was not published
        assert shards(share.folder) == shards(plain)
        assert not list(share.folder.glob("_unpublished-*"))


def test_two_coordinators(bucket, tmp_path):
    with held(bucket, tmp_path / "first"):
        with pytest.raises(PrefmillError, match="is in use by process"), held(bucket, tmp_path / "second"):
            pass
        with pytest.raises(PrefmillError, match="this machine's copy"), held(bucket, tmp_path / "first"):
            pass
    with held(bucket, tmp_path / "second"):
        pass


def test_a_kill_between_bytes_and_record(bucket, tmp_path, plain, monkeypatch):
    with held(bucket, tmp_path / "first") as share:
        work(share, 20)
    create = bucket.create

    def killed(name, data):
        if name.startswith("log/") and b'"whole":false' in data:
            raise Killed
        return create(name, data)

    monkeypatch.setattr(bucket, "create", killed)
    with pytest.raises(Killed), held(bucket, tmp_path / "first") as share:
        work(share)
    monkeypatch.setattr(bucket, "create", create)
    reader = Log(bucket)
    reader.read()
    named = {entry.object for entry in reader.files.values()}
    assert len(set(bucket.names("staged")) - named) >= 5  # put, and part of nothing
    follow(bucket, tmp_path / "reader")
    assert len(shards(tmp_path / "reader")) == 5
    with held(bucket, tmp_path / "second") as share:
        assert "objects that were never committed were swept" in share.notices[-1]
        assert set(bucket.names("staged")) == {entry.object for entry in share.log.files.values()}
        work(share)
    assert shards(tmp_path / "second") == shards(plain)


def test_a_late_coordinator_is_told_and_nothing_of_it_is_seen(bucket, tmp_path, age, plain):
    def late():
        with held(bucket, tmp_path / "late") as share:
            work(share, 12)
            share.publish()
            age(LEASE, 100)
            with held(bucket, tmp_path / "other") as other:  # it has gone on for too long without a sign of life
                work(other, 20)
                other.publish()
                between.append(other.log.position)
                work(share)  # the late one wakes up and computes
                with pytest.raises(LeaseLost, match="taken over"):
                    share.publish()
                share.lease.renew()

    between: list[int] = []
    with pytest.raises(LeaseLost, match="its lease is now held by"):
        late()
    reader = Log(bucket)
    reader.read()
    assert reader.position == between[0]
    follow(bucket, tmp_path / "reader")
    assert len(shards(tmp_path / "reader")) == 5
    with held(bucket, tmp_path / "late") as share:
        assert "another coordinator has gone on since" in share.notices[0]
        assert len(shards(share.folder)) == 5
        aside = next(share.folder.glob("_unpublished-*"))
        assert len(list((aside / NAME).glob("*.parquet"))) == 5
        work(share)
    assert shards(tmp_path / "late") == shards(plain)


def test_who_has_lost_the_lease_stops_before_the_next_batch(tmp_path):
    from obstore.store import MemoryStore
    from prefmill.pipeline.objects.bucket import Bucket

    bucket, batches = Bucket(MemoryStore(), "memory://test"), []

    def stolen(share):
        batches.append(1)
        taken = None
        while taken is None:
            found = bucket.look(LEASE)
            assert found is not None
            taken = bucket.swap(LEASE, b'{"token":"x","holder":"another","seconds":60}', found.etag)
        while share.trouble is None:
            time.sleep(0.01)

    def late():
        with held(bucket, tmp_path / "late", seconds=0.05) as share:
            work(share, after=lambda: stolen(share))

    with pytest.raises(LeaseLost, match="now held by another"):
        late()
    assert len(batches) < 4


def test_it_is_published_while_it_goes_on(bucket, tmp_path):
    with held(bucket, tmp_path / "here", every=0.05) as share:
        work(share, 8)
        reader = Log(bucket)
        while reader.files != share.log.files or not reader.files:
            time.sleep(0.02)
            reader.read()
        assert f"{NAME}/_manifest.json" in reader.files


def test_what_a_dead_coordinator_made_and_did_not_publish_is_not_lost(bucket, tmp_path, plain, monkeypatch):
    def vanished(*_):
        raise PrefmillError("the network is down", "wait")

    def cut_off(patch):
        with held(bucket, tmp_path / "here") as share:
            patch.setattr(bucket, "put", vanished)
            patch.setattr(bucket, "swap", vanished)  # nor could the lease be given back
            work(share)

    with monkeypatch.context() as patch, pytest.raises(PrefmillError, match="network"):
        cut_off(patch)
    with held(bucket, tmp_path / "here") as share:  # at once: the same folder's last holder is known to be dead
        assert shards(share.folder) == shards(plain)
    assert follow(bucket, tmp_path / "there") > 10
    assert shards(tmp_path / "there") == shards(plain)


def test_files_that_go_are_gone(bucket, tmp_path):
    with held(bucket, tmp_path / "here") as share:
        work(share, 8)
        share.publish()
        before = len(bucket.names("staged"))
        first = min((share.folder / NAME).glob("*.parquet"))
        Dataset(share.folder / NAME, Score).set_aside(Dataset(share.folder / NAME, Score).shards[0], "remade")
        share.publish()
        assert f"{NAME}/{first.name}" not in share.log.files
        assert len(bucket.names("staged")) == before - 1
    follow(bucket, tmp_path / "there")
    assert len(shards(tmp_path / "there")) == 1


def test_a_bucket_that_goes(tmp_path):
    from prefmill.pipeline.objects.address import open_bucket

    bucket = open_bucket(f"file://{tmp_path}/bucket")

    def cut_off():
        with held(bucket, tmp_path / "here") as share:
            work(share, 8)
            shutil.rmtree(tmp_path / "bucket")

    with pytest.raises(PrefmillError, match="is not there any more"):
        cut_off()
    assert len(shards(tmp_path / "here")) == 2


def test_the_folder_of_another_run(bucket, tmp_path, plain):
    with held(bucket, tmp_path / "here") as share:
        work(share, 8)
    with pytest.raises(PrefmillError, match="holds files of another run"), held(bucket, plain):
        pass
    (plain / ".shared.json").unlink(missing_ok=True)
    with pytest.raises(PrefmillError, match="holds something else"):
        follow(bucket, plain)
    (plain / ".shared.json").unlink(missing_ok=True)


def test_links_are_not_followed(bucket, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hush")
    with held(bucket, tmp_path / "here") as share:
        (share.folder / "link").symlink_to(secret)
        (share.folder / ".env").write_text("hush")
        (share.folder / "run.yaml").write_text("{}")
    assert set(share.log.files) == {"run.yaml"}
