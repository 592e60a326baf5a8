"""Shards and datasets: commits are whole or absent, damage is found and named, reading streams."""

import errno
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.locks import exclusive
from prefmill.pipeline.records import Candidate, Reject, Score, content_id, seed_for
from prefmill.pipeline.shards import Footer, Shard, write_shard
from prefmill.pipeline.store import Dataset, Run


def score(number: int) -> Score:
    attributes = {"helpfulness": number / 7, "verbosity": -1.5} if number % 2 else None
    return Score(f"subject-{number}", "scorer", number / 3, number % 3 == 0, attributes)


def test_ids_depend_on_content_alone():
    # fixed for good: a changed id would orphan every existing run
    assert content_id("a", "x", 1, 2.5, None) == "838b3232ba4355562e76dbe2434ea842"
    assert content_id("a", "xy") != content_id("a", "x", "y")
    assert content_id("a", "1") != content_id("a", 1)
    assert content_id("a", b"bytes") != content_id("a", "bytes")
    assert 0 <= seed_for("record", 3) < 2**63
    assert seed_for("record", 3) == seed_for("record", 3) != seed_for("record", 4)


def test_rows_come_back_equal_in_order_of_their_ranges(tmp_path):
    rejects = (Reject("s", "stage", "tie", 'détail "quoted"\n'),)
    write_shard(tmp_path, 5, 9, Score, [score(n) for n in range(5, 9)], Footer("w2", rejects, 1.5))
    write_shard(tmp_path, 0, 5, Score, [score(n) for n in range(5)], Footer("w1"))
    dataset = Dataset(tmp_path, Score)
    assert list(dataset) == [score(n) for n in range(9)]
    assert len(dataset) == 9
    assert dataset.read(3, 7) == [score(n) for n in range(3, 7)]
    assert dataset.read(8, 100) == [score(8)]
    assert [row.subject_id for row in dataset.take(["subject-7", "subject-0"], key="subject_id")] == [
        "subject-7",
        "subject-0",
    ]
    assert list(dataset.rejects()) == list(rejects)
    assert dataset.reject_counts() == {"tie": 1}
    assert [footer for _, footer in dataset.footers()] == [Footer("w1"), Footer("w2", rejects, 1.5)]


def test_shards_are_plain_parquet(tmp_path):
    write_shard(tmp_path, 0, 2, Score, [score(0), score(1)], Footer("w"))
    table = pq.read_table(next(tmp_path.glob("*.parquet")))
    assert table.column("value").to_pylist() == [0.0, 1 / 3]


def test_the_same_rows_give_the_same_file(tmp_path):
    names = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        names.add(write_shard(tmp_path / folder, 0, 3, Score, [score(n) for n in range(3)], Footer("w")).path.name)
    assert len(names) == 1


@pytest.mark.parametrize("where", [0.02, 0.5, 0.98])
def test_one_flipped_bit_anywhere_is_damage(tmp_path, where):
    shard = write_shard(tmp_path, 0, 50, Score, [score(n) for n in range(50)], Footer("w"))
    assert shard.is_intact()
    data = bytearray(shard.path.read_bytes())
    data[int(len(data) * where)] ^= 4
    shard.path.write_bytes(data)
    assert not shard.is_intact()


def test_a_reader_that_meets_damage_names_the_file(tmp_path):
    image = os.urandom(100_000)
    rows = [Candidate(str(n), "p", 1, 1, image, "m") for n in range(3)]
    shard = write_shard(tmp_path, 0, 3, Candidate, rows, Footer("w"))
    data = bytearray(shard.path.read_bytes())
    data[len(data) // 2] ^= 1
    shard.path.write_bytes(data)
    with pytest.raises(PrefmillError, match=shard.path.name):
        list(Dataset(tmp_path, Candidate))
    shard.path.write_bytes(data[: len(data) // 2])
    with pytest.raises(PrefmillError, match=shard.path.name):
        len(Dataset(tmp_path, Candidate))


def test_of_shards_that_overlap_the_longer_is_read_and_the_others_are_conflicts(tmp_path):
    """The order of the listing does not matter; what is set aside makes room for what was in conflict with it."""
    ranges = [(0, 3), (2, 9), (3, 5), (8, 10), (10, 12), (11, 13)]
    shards = {
        (a, b): write_shard(tmp_path, a, b, Score, [score(n) for n in range(a, b)], Footer("w")) for a, b in ranges
    }
    dataset = Dataset(tmp_path, Score)
    first = min((shards[10, 12], shards[11, 13]), key=lambda shard: shard.path.name)
    assert dataset.shards == [shards[2, 9], first]
    assert dataset.conflicts == sorted(set(shards.values()) - {shards[2, 9], first})
    assert list(dataset)[:7] == [score(n) for n in range(2, 9)]
    assert len(dataset) == 9
    dataset.set_aside(shards[2, 9], "damaged")
    dataset = Dataset(tmp_path, Score)
    assert dataset.shards == [shards[0, 3], shards[3, 5], shards[8, 10], first]


def test_of_two_shards_of_one_range_the_first_name_is_read(tmp_path):
    both = [write_shard(tmp_path, 0, 1, Score, [score(n)], Footer("w")) for n in range(2)]
    dataset = Dataset(tmp_path, Score)
    assert (dataset.shards, dataset.conflicts) == ([min(both)], [max(both)])


def test_what_is_set_aside_twice_is_kept_twice(tmp_path):
    for content in (b"one", b"two"):
        path = tmp_path / "000000000-000000001-0123456789abcdef.parquet"
        path.write_bytes(content)
        Dataset(tmp_path, Score).set_aside(Shard(0, 1, "", path), "damaged")
    assert sorted(path.read_bytes() for path in (tmp_path / "_set-aside").iterdir()) == [b"one", b"two"]


def test_a_folder_that_cannot_be_made_or_read_is_named(tmp_path):
    (tmp_path / "file").touch()
    for dataset in (Dataset(tmp_path / "new", Score), Dataset(tmp_path / "new", Score)):
        dataset.create()
        assert dataset.folder.is_dir()
    with pytest.raises(PrefmillError, match=r"cannot read .*Not a directory"):
        Dataset(tmp_path / "file", Score)
    for name in ("file/below", "a\0b", "x" * 300):
        dataset.folder = tmp_path / name
        with pytest.raises(PrefmillError, match="cannot write"):
            dataset.create()


def test_matching_rows_are_those_with_one_of_the_values(tmp_path):
    for start in (0, 30):
        rows = [Candidate(f"c{n}", f"p{n // 4}" if n else None, 1, 1, b"x" * 9, "m") for n in range(start, start + 30)]
        write_shard(tmp_path, start, start + 30, Candidate, rows, Footer("w"))
    dataset = Dataset(tmp_path, Candidate)
    everything = list(dataset)
    wanted = {"p9", "p0", "p7", "unknown"}
    assert list(dataset.matching("prompt_id", wanted)) == [row for row in everything if row.prompt_id in wanted]
    assert list(dataset.matching("prompt_id", [])) == []


def test_who_wants_one_image_of_four_reads_about_one_of_four(tmp_path, monkeypatch):
    """In bytes that the reader asks the file for; a row group of several images would make it all of them."""
    size, count = 300_000, 40
    rows = [Candidate(str(n), str(n // 4), 1, 1, os.urandom(size * (1 + n % 3)), "m") for n in range(count)]
    shard = write_shard(tmp_path, 0, count, Candidate, rows, Footer("w"))
    dataset, read = Dataset(tmp_path, Candidate), []
    real = pq.ParquetFile.read_row_group

    def counting(self, group, **keywords):
        read.append(self.metadata.row_group(group).total_byte_size)
        return real(self, group, **keywords)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    taken = list(dataset.take([str(n) for n in range(0, count, 4)]))
    assert taken == rows[::4]
    assert sum(read) < 2.2 * sum(len(row.image) for row in taken)
    payload = sum(len(row.image) for row in rows)
    assert shard.path.stat().st_size < 1.005 * payload + 3000


def test_reading_a_hundred_thousand_rows_is_not_quadratic(tmp_path):
    """Counted in row groups read, not in seconds: each of ten thousand ids costs one look-up and no scan."""
    rows = [score(n) for n in range(10_000)]
    write_shard(tmp_path, 0, 10_000, Score, rows, Footer("w"))
    dataset = Dataset(tmp_path, Score)
    groups = []
    real = Dataset._table
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dataset, "_table", lambda *given, **named: groups.append(given[2:4]) or real(*given, **named))
        assert list(dataset.take([f"subject-{n}" for n in range(0, 10_000, 7)], key="subject_id")) == rows[::7]
    assert len(groups) == len(set(groups))


@pytest.mark.parametrize("call", ["fsync", "write_table"])
def test_a_full_disk_commits_nothing_and_says_so(tmp_path, monkeypatch, call):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "write_table": (pq, "write_table")}[call], full)
    with pytest.raises(PrefmillError, match="No space left on device") as error:
        write_shard(tmp_path, 0, 1, Score, [score(0)], Footer("w"))
    assert "same command again" in error.value.fix
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_for_real(tmp_path):
    """The kernel refuses to let any file grow beyond 64 KiB: the shard that would is not committed."""
    code = """
import os, resource, signal, sys
from pathlib import Path
from prefmill.base.errors import PrefmillError
from prefmill.base.locks import exclusive
from prefmill.pipeline.records import Candidate
from prefmill.pipeline.shards import Footer, write_shard
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
folder = Path(sys.argv[1])
write_shard(folder, 0, 1, Candidate, [Candidate("a", "p", 1, 1, os.urandom(1000), "m")], Footer("w"))
try:
    write_shard(folder, 1, 2, Candidate, [Candidate("b", "p", 1, 1, os.urandom(200000), "m")], Footer("w"))
except PrefmillError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "cannot write" in result.stdout
    dataset = Dataset(tmp_path, Candidate)
    assert [row.id for row in dataset] == ["a"]
    assert all(shard.is_intact() for shard in dataset.shards)
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_second_writer_is_refused_until_the_first_ends(tmp_path):
    folder = tmp_path / "run"
    code = f"from prefmill.pipeline.store import Run\nwith Run.writing({str(folder)!r}): pass"
    with Run.writing(folder):
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert second.returncode != 0
        assert f"is in use by process {os.getpid()}" in second.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_leftovers_of_a_crash_are_swept_files_and_folders(tmp_path):
    for name in ("stage", "training"):
        (tmp_path / name).mkdir()
    (tmp_path / "stage" / ".tmp-000000000-000000004").write_bytes(b"half a shard")
    (tmp_path / "training" / ".tmp-adapter").mkdir()
    (tmp_path / "training" / ".tmp-adapter" / "weights").touch()
    (tmp_path / ".tmp-report.html").touch()
    assert len(Dataset(tmp_path / "stage", Score)) == 0
    with Run.writing(tmp_path):
        assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "stage", "training"]


def test_a_training_under_way_beside_a_run_keeps_what_it_is_writing(tmp_path):
    half = tmp_path / "training" / ".tmp-adapter"
    half.mkdir(parents=True)
    with exclusive(tmp_path / "training" / ".lock"), Run.writing(tmp_path):
        assert half.exists()
    with Run.writing(tmp_path):
        assert not half.exists()


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "file/below", "\ud800", "file"])
def test_run_folders_that_no_file_system_takes_are_named(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(PrefmillError, match="is not a run folder"):
        Run.open(tmp_path / name)
    with pytest.raises(PrefmillError, match="cannot write"), Run.writing(tmp_path / name):
        pass


def test_a_file_of_a_run_is_read_as_text_or_named(tmp_path):
    run = Run(tmp_path)
    assert run.read_text("run.yaml") is None
    (tmp_path / "run.yaml").write_text("grüße", encoding="utf-8")
    assert run.read_text("run.yaml") == "grüße"
    (tmp_path / "run.yaml").write_bytes("grüße".encode("utf-16"))
    with pytest.raises(PrefmillError, match=r"run\.yaml: it is not UTF-8 text"):
        run.read_text("run.yaml")


def test_a_manifest_keeps_file_names_that_are_not_utf8(tmp_path):
    (tmp_path / "stage").mkdir()
    Run(tmp_path).write_manifest("stage", {"config": {"path": "caf\udce9"}})
    assert Run(tmp_path).manifest("stage") == {"config": {"path": "caf\udce9"}}


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(PrefmillError, match="is not a run folder"):
        Run.open(tmp_path)


def test_shard_names_round_trip(tmp_path):
    shard = write_shard(tmp_path, 3, 8, Score, [], Footer("w"))
    assert Shard.parse(shard.path) == shard
    assert Shard.parse(tmp_path / "_manifest.json") is None


def test_ten_thousand_images_of_a_megabyte_pass_in_under_a_gigabyte(tmp_path):
    """Written and read by the store in a process of its own, whose peak memory the kernel reports."""
    code = """
import os, re, sys
from pathlib import Path
from prefmill.pipeline.records import Candidate
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Dataset
folder, image = Path(sys.argv[1]), os.urandom(1 << 20)
rows = [Candidate(str(n), "p", 1, 1, image, "m") for n in range(100)]
shard = write_shard(folder, 0, 100, Candidate, rows, Footer("w"))
for part in range(1, 100):  # the same bytes under other ranges: the reader's work is the same, the disk stays free
    name = f"{part * 100:09d}-{part * 100 + 100:09d}-{shard.checksum}.parquet"
    os.link(shard.path, folder / name)
dataset = Dataset(folder, Candidate)
count = total = 0
for row in dataset:
    count, total = count + 1, total + len(row.image)
for start in range(0, 10_000, 1000):
    total += sum(len(row.image) for row in dataset.read(start, start + 3))
# not ru_maxrss: that one starts at the peak of the process that started this one
peak = re.search("VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(count, total >> 20, int(peak[1]) >> 10)
"""
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    count, mebibytes, peak = map(int, result.stdout.split())
    assert (count, mebibytes) == (10_000, 10_030)
    assert peak < 1000, f"{peak} MiB"
