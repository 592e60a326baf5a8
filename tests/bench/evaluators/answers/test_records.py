"""Files of answers in every form that people have them in, and what is wrong with those that are none."""

import gzip
import hashlib
import json

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.bench.evaluators.answers.records import read_records

ROWS = [{"id": 1, "response": "Yes\u2028and no"}, {"id": 2, "response": "No"}, {"id": 3, "response": "☃"}]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
LIST = json.dumps(ROWS, indent=1, ensure_ascii=False).encode()


@pytest.mark.parametrize("content", [LINES, LIST], ids=["lines", "list"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a"])
@pytest.mark.parametrize(
    "form",
    [
        bytes,
        gzip.compress,
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n") + b"\r\n\r\n",
        lambda data: gzip.compress(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")),
    ],
    ids=["plain", "gzip", "bom", "crlf", "all"],
)
def test_content_tells_the_form(tmp_path, content, name, form):
    path = tmp_path / name
    path.write_bytes(form(content))
    file = read_records(path, "--answers")
    assert [one.fields for one in file.records] == ROWS
    assert file.source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert file.records[2].place == (f"{name}: item 3" if content is LIST else f"{name}:3")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "holds no answers"),
        (b"\xef\xbb\xbf\r\n \n", "holds no answers"),
        (b"[]", "holds no answers"),
        (LINES + b'\n{"id": 4, "resp', r"a.jsonl:4: not valid JSON"),
        (b'{"id": 1}\n\nyes\n', r"a.jsonl:3: not valid JSON"),
        (b'{\n "id": 1\n}', r"a.jsonl:1: not valid JSON"),
        (LIST[:-1], r"a.jsonl:14: not valid JSON"),
        (b"[1]", r"a.jsonl: item 1: a int where an object"),
        (b'{"id": 1}\n"yes"', r"a.jsonl:2: a str where an object"),
        (LINES + b'\n{"id": 4, "response": "\xff"}', r"a.jsonl:4: not UTF-8"),
        (gzip.compress(LINES, mtime=0)[:-9], "cannot read .*a.jsonl"),
        (b"[" * 100_000, "nested too deeply"),
        (LINES.decode().encode("utf-16"), "not UTF-8"),
    ],
)
def test_faults_are_named_with_their_line(tmp_path, content, fault):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(PrefmillError, match=fault):
        read_records(path, "--answers")


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(PrefmillError, match="does not exist"):
        read_records(tmp_path / "none.jsonl", "--answers")
    with pytest.raises(PrefmillError, match="is a folder"):
        read_records(tmp_path, "--answers")
