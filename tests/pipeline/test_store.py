"""Shards and datasets: commits are whole or absent, damage is found and named, reading streams."""

import errno
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline import shards
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


@pytest.mark.parametrize("call", ["fsync", "write_table"])
def test_a_full_disk_commits_nothing_and_says_so(tmp_path, monkeypatch, call):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "write_table": (shards.pq, "write_table")}[call], full)
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


def test_leftovers_of_a_crash_are_swept(tmp_path):
    stage = tmp_path / "stage"
    stage.mkdir()
    (stage / ".tmp-000000000-000000004").write_bytes(b"half a shard")
    assert len(Dataset(stage, Score)) == 0
    with Run.writing(tmp_path):
        assert list(stage.iterdir()) == []


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
