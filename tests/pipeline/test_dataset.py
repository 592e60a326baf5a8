"""Datasets: what is read of shards that overlap, of many rows those that are wanted, and no more bytes than that."""

import os

import pyarrow.parquet as pq
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.dataset import Dataset
from prefmill.pipeline.records import Candidate, Score
from prefmill.pipeline.shards import Footer, Shard, write_shard


def score(number: int) -> Score:
    attributes = {"helpfulness": number / 7, "verbosity": -1.5} if number % 2 else None
    return Score(f"subject-{number}", "scorer", number / 3, number % 3 == 0, attributes)


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
