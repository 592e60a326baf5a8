"""Damage: whatever bit of a shard or a manifest flips, a reader gives the same rows or names the file."""

import json
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.files import sha256_of
from prefmill.cli.show import show_command
from prefmill.pipeline.columns import schema_of
from prefmill.pipeline.dataset import Dataset
from prefmill.pipeline.records import Candidate, Pair, Prompt, Reject, Response, Score
from prefmill.pipeline.shards import STAGED, Footer, Shard, adopt, stage_shard, write_shard
from prefmill.pipeline.store import Run
from prefmill.pipeline.summary import summarize

FLIPS = 250
REJECTS = (Reject("s", "stage", "tie", "détail"),)
_RANDOM = random.Random(0)
ROWS = {
    "scores": [Score(f"s{n}", "judge", n / 3, n % 3 == 0, {"a": n / 7} if n % 2 else None) for n in range(20)],
    "prompts": [Prompt(f"p{n}", n, f"grüße {n}", "s", None if n % 2 else "t", ("x", "y")[: n % 3]) for n in range(20)],
    "candidates": [Candidate(f"c{n}", "p", 8, 8, _RANDOM.randbytes(300), "m", seed=n) for n in range(5)],
    "pairs": [Pair(f"p{n}", "i", "q " * n, "good", "bad", "a", "b", n / 3) for n in range(20)],
}


def written(folder, rows) -> Shard:
    return write_shard(folder, 0, len(rows), type(rows[0]), rows, Footer("work", REJECTS, 1.5))


def everything(folder, record_type):
    """All that a reader can get out of a dataset."""
    dataset = Dataset(folder, record_type)
    key = "subject_id" if record_type is Score else "id"
    return (
        list(dataset),
        dataset.read(1, 4),
        dataset.column(key),
        list(dataset.matching(key, dataset.column(key)[:2])),
        [footer for _, footer in dataset.footers()],
    )


@pytest.mark.parametrize("name", ROWS)
def test_a_flipped_bit_gives_the_same_rows_or_the_name_of_the_file(tmp_path, name):
    """Anywhere: in values, in the headers of pages, in the footer, in the seal. Nothing else may come of it."""
    kind = type(ROWS[name][0])
    shard = written(tmp_path, ROWS[name])
    intact, expected = shard.path.read_bytes(), everything(tmp_path, kind)
    chosen = random.Random(name)
    positions = [chosen.randrange(len(intact)) for _ in range(FLIPS)]
    found = same = 0
    for position in [*range(8), *range(len(intact) - 8, len(intact)), *positions]:
        data = bytearray(intact)
        data[position] ^= 1 << chosen.randrange(8)
        shard.path.write_bytes(data)
        try:
            assert everything(tmp_path, kind) == expected, position
        except PrefmillError as error:
            found += shard.path.name in error.message
        else:
            same += 1
        assert not shard.is_intact()
    assert found + same == len(positions) + 16
    assert found > FLIPS / 2


@pytest.mark.parametrize("name", ROWS)
def test_lost_and_foreign_bytes_are_damage(tmp_path, name):
    kind = type(ROWS[name][0])
    shard = written(tmp_path, ROWS[name])
    intact = shard.path.read_bytes()
    middle = len(intact) // 2
    for data in (
        *(intact[:end] for end in (0, 3, 4, 11, 12, middle, len(intact) - 1)),
        intact[:middle] + bytes(512) + intact[middle + 512 :],  # a lost sector
        bytes(len(intact)),
        intact + b"\0",
        intact[1:],
        b"PAR1" + os.urandom(200) + b"\xff\xff\xff\xffPAR1",
        b"PAR1" + bytes(4) + b"PAR1",
    ):
        shard.path.write_bytes(data)
        with pytest.raises(PrefmillError, match=shard.path.name):
            everything(tmp_path, kind)


def test_a_flipped_bit_of_a_footer_is_found_without_reading_the_rows(tmp_path):
    """The type of a text column lies there: without the seal, one flip shows it as bytes."""
    shard = written(tmp_path, ROWS["pairs"])
    data = shard.path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    for position in range(len(data) - 8 - length, len(data) - 8, 7):
        damaged = bytearray(data)
        damaged[position] ^= 16
        shard.path.write_bytes(damaged)
        with pytest.raises(PrefmillError, match="damaged"):
            len(Dataset(tmp_path, Pair))


def test_a_shard_of_other_rows_is_named_and_so_are_its_columns(tmp_path):
    written(tmp_path, ROWS["scores"])
    with pytest.raises(PrefmillError, match="does not hold Response rows: its columns are subject_id, scorer"):
        list(Dataset(tmp_path, Response))


def test_shards_without_a_seal_are_read_while_they_are_intact(tmp_path):
    """As earlier versions wrote them: plain Parquet, its checksum in its name."""
    sealed = written(tmp_path, ROWS["scores"])
    table = pq.read_table(sealed.path)
    sealed.path.unlink()
    pq.write_table(table.replace_schema_metadata(Footer("old").encode()), tmp_path / "plain")
    old = tmp_path / f"000000000-000000020-{sha256_of(tmp_path / 'plain')[:16]}.parquet"
    (tmp_path / "plain").rename(old)
    assert list(Dataset(tmp_path, Score)) == ROWS["scores"]
    data = bytearray(old.read_bytes())
    data[len(data) - 30] ^= 1
    old.write_bytes(data)
    with pytest.raises(PrefmillError, match="damaged"):
        len(Dataset(tmp_path, Score))


def test_foreign_parquet_under_a_shard_s_name_is_damage(tmp_path):
    path = tmp_path / "000000000-000000001-0123456789abcdef.parquet"
    pq.write_table(schema_of(Score).empty_table(), path)
    with pytest.raises(PrefmillError, match="damaged"):
        len(Dataset(tmp_path, Score))


@pytest.mark.parametrize("make", ["mkdir", "dangling", "mkfifo"])
def test_a_shard_s_name_that_is_no_file_is_damage(tmp_path, make):
    path = tmp_path / "000000000-000000001-0123456789abcdef.parquet"
    if make == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    else:
        getattr(os, make)(path)
    dataset = Dataset(tmp_path, Score)
    with pytest.raises(PrefmillError, match="damaged"):
        len(dataset)
    assert not dataset.shards[0].is_intact()
    went = dataset.set_aside(dataset.shards[0], "damaged")
    assert went.name == f"damaged-{path.name}"
    assert len(Dataset(tmp_path, Score)) == 0


def test_names_that_are_no_ranges_are_no_shards(tmp_path):
    for name in ("000000003-000000003-", "000000004-000000003-", "٠٠٠٠٠٠٠٠٠-٠٠٠٠٠٠٠٠١-", "00-01-"):
        assert Shard.parse(tmp_path / f"{name}0123456789abcdef.parquet") is None


def test_a_shard_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    shard = written(tmp_path, ROWS["scores"])

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refused)
    for read in (shard.is_intact, lambda: len(Dataset(tmp_path, Score))):
        with pytest.raises(PrefmillError, match=r"cannot read .*Permission denied"):
            read()


def test_every_value_a_record_may_hold_has_a_column():
    for kind in (Prompt, Candidate, Score, Response, Pair):
        assert all(isinstance(field.type, pa.DataType) for field in schema_of(kind))


@pytest.fixture
def run(tmp_path):
    for name in ("prompts", "pairs"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, ROWS[name])
        counts = {"inputs": 21, "outputs": 20, "rejects": {"tie": 1}, "seconds": 1.5, "cost": 0.25, "complete": True}
        texts = {"fingerprint": "f", "models": ["a model@1"], "notices": ["grüße"], "config": {"a": [1, None]}}
        Run(tmp_path).write_manifest(name, {**counts, **texts})
    return tmp_path


def test_a_flipped_bit_of_a_manifest_gives_a_summary_or_the_name_of_the_file(run, capsys):
    path = run / "pairs" / "_manifest.json"
    intact, expected = path.read_bytes(), summarize(Run(run))
    chosen = random.Random(1)
    found = other = 0
    for _ in range(250):
        data = bytearray(intact)
        data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
        path.write_bytes(data)
        try:
            show_command(run, None, False, 10, False)
            # a manifest has no checksum: it may tell another number, of the same stages
            assert summarize(Run(run))["stages"].keys() == expected["stages"].keys()
        except PrefmillError as error:
            found += str(path) in error.message
        else:
            other += 1
    assert found + other == 250
    assert found > 60
    capsys.readouterr()


@pytest.mark.parametrize("key", ["complete", "inputs", "outputs", "rejects", "models", "seconds", "cost", "config"])
def test_a_manifest_without_a_key_or_with_another_kind_of_value_is_named(run, key):
    path = run / "pairs" / "_manifest.json"
    content = json.loads(path.read_text())
    wrong = {name: value for name, value in content.items() if name != key}
    for body in (wrong, {**content, key: "text"}, {**content, key: [3]}, {**content, key: {"tie": {}}}):
        if key == "config" and body.get(key) == {"tie": {}}:
            continue  # a configuration may hold anything
        path.write_text(json.dumps(body))
        with pytest.raises(PrefmillError, match=r"pairs/_manifest.json is damaged \(.*" + key):
            summarize(Run(run))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[1]", b"null", b"[" * 9999, b'{"inputs": ' + b"9" * 5000 + b"}"]
)
def test_a_manifest_that_is_none_is_named(run, content):
    (run / "pairs" / "_manifest.json").write_bytes(content)
    with pytest.raises(PrefmillError, match=r"pairs/_manifest.json") as error:
        Run(run).manifest("pairs")
    assert "delete it" in error.value.fix
    (run / "pairs" / "_manifest.json").unlink()
    (run / "pairs" / "_manifest.json").mkdir()
    with pytest.raises(PrefmillError, match="Is a directory"):
        Run(run).manifest("pairs")


def test_show_of_a_damaged_stage_names_the_file(run):
    shard = Dataset(run / "pairs", Pair).shards[0]
    data = bytearray(shard.path.read_bytes())
    data[-20] ^= 1
    shard.path.write_bytes(data)
    for rejects in (False, True):
        with pytest.raises(PrefmillError, match=shard.path.name):
            show_command(run, "pairs", rejects, 10, False)


def test_a_staged_shard_is_nobodys_until_it_is_adopted(tmp_path):
    (tmp_path / STAGED).mkdir()
    rows = [Score(f"s{number}", "x", 0.5) for number in range(3)]
    first, second = (stage_shard(tmp_path, 0, 3, Score, rows, Footer("w")) for _ in range(2))
    assert first.path != second.path
    assert Dataset(tmp_path, Score).shards == []
    committed = adopt(first, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    assert committed.path.name == write_shard(tmp_path / "elsewhere", 0, 3, Score, rows, Footer("w")).path.name
    assert committed.is_intact()
    assert Dataset(tmp_path, Score).shards == [committed]
    with pytest.raises(PrefmillError, match=r"cannot write .*No such file"):
        adopt(first, tmp_path)


def test_what_was_staged_and_never_adopted_goes_when_the_run_is_opened(tmp_path):
    (tmp_path / "scores" / STAGED).mkdir(parents=True)
    stage_shard(tmp_path / "scores", 0, 1, Score, [Score("s", "x", 0.5)], Footer("w"))
    with Run.writing(tmp_path):
        assert not (tmp_path / "scores" / STAGED).exists()
