"""Records are created once; who comes late gets none."""

import json

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.objects import log as log_module
from prefmill.pipeline.objects.log import Entry, LeaseLost, Log


def entry(letter, epoch=1):
    return Entry(object=f"staged/{epoch:012d}/{letter * 32}", size=1, sha256=letter * 64)


def fenced(bucket, token="a"):
    log = Log(bucket, token)
    log.fence()
    return log


def test_what_was_committed_is_read(bucket, monkeypatch):
    monkeypatch.setattr(log_module, "WHOLE_EVERY", 4)
    log = fenced(bucket)
    log.append({"run.yaml": entry("a"), "prompts/1.parquet": entry("b")}, [])
    log.append({"run.yaml": entry("c")}, ["prompts/1.parquet"])
    early = Log(bucket)
    early.read()
    for letter in "def":
        log.append({f"{letter}.json": entry(letter)}, [])
    expected = {"run.yaml": entry("c"), **{f"{letter}.json": entry(letter) for letter in "def"}}
    late = Log(bucket)
    late.read()
    early.read()
    assert late.files == early.files == log.files == expected
    assert late.position == early.position == log.position == 6


def test_a_late_writer_gets_no_record(bucket):
    zombie = fenced(bucket)
    zombie.append({"run.yaml": entry("a")}, [])
    other = fenced(bucket, "b")
    assert (zombie.epoch, other.epoch, other.files) == (1, 3, {"run.yaml": entry("a")})
    with pytest.raises(LeaseLost, match="taken over"):
        zombie.append({"late.json": entry("b")}, [])
    other.append({"good.json": entry("c", 3)}, [])
    with pytest.raises(LeaseLost):
        zombie.append({"late.json": entry("b")}, [])
    reader = Log(bucket)
    reader.read()
    assert sorted(reader.files) == ["good.json", "run.yaml"]


def test_a_commit_whose_answer_was_lost_is_one(bucket, monkeypatch):
    log, create = fenced(bucket), bucket.create
    monkeypatch.setattr(bucket, "create", lambda name, data: create(name, data) and create(name, data))
    log.append({"run.yaml": entry("a")}, [])
    assert log.position == 2


def test_only_what_nobody_can_name_any_more_is_swept(bucket, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x")
    first = fenced(bucket)
    named, orphan = first.staged_name(), first.staged_name()
    for name in (named, orphan):
        bucket.put(name, file)
    first.append({"run.yaml": Entry(object=named, size=1, sha256="0" * 64)}, [])
    second = fenced(bucket, "b")
    under_way = second.staged_name()
    bucket.put(under_way, file)
    assert second.sweep() == 1
    assert first.sweep() == 0  # a late one does not know what was committed since, and touches nothing
    assert bucket.names("staged") == sorted([named, under_way])


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a/../../b", "a//b", ".lock", "a/.x", "a\\b", "a\x00", ""])
def test_no_record_leads_out_of_the_folder(bucket, path):
    body = {"token": "a", "id": "b", "whole": True, "files": {path: entry("a").model_dump()}, "gone": []}
    bucket.create("log/000000000001.json", json.dumps(body).encode())
    with pytest.raises(PrefmillError, match="damaged"):
        Log(bucket).read()


@pytest.mark.parametrize("name", ["../../other", "log/000000000001.json", "staged/1/x"])
def test_no_record_names_other_objects(bucket, name):
    files = {"a": entry("a").model_dump() | {"object": name}}
    body = {"token": "a", "id": "b", "whole": True, "files": files, "gone": []}
    bucket.create("log/000000000001.json", json.dumps(body).encode())
    with pytest.raises(PrefmillError, match="damaged"):
        Log(bucket).read()


def test_a_record_that_is_missing(bucket):
    log = fenced(bucket)
    for letter in "abc":
        log.append({f"{letter}.json": entry(letter)}, [])
    bucket.delete(["log/000000000002.json"])
    with pytest.raises(PrefmillError, match="records are not all there"):
        Log(bucket).read()
    bucket.delete(["log/000000000003.json", "log/000000000004.json"])
    with pytest.raises(PrefmillError, match="records have vanished"):
        log.read()
