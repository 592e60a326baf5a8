"""Separated values: quotes hold line ends, the separator is found, and a bad row costs its line alone."""

import csv
import io
import random

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.tables.formats import open_table


def opened(tmp_path, data, name="t.csv"):
    (tmp_path / name).write_bytes(data)
    return open_table(tmp_path / name, "--prompts")


def test_whatever_the_standard_library_writes_is_read_back_with_its_first_line(tmp_path):
    generator = random.Random(3)
    rows = [["".join(generator.choices('ab",;\n\r\t\x0b\u2028 é', k=8)) for _ in range(3)] for _ in range(200)]
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([["a", "b", "c"], *rows])
    data = buffer.getvalue().encode()
    table = opened(tmp_path, data)
    assert [list(row.fields.values()) for row in table.scan()] == rows
    assert [list(row.fields.values()) for row in table.rows(150, 200)] == rows[150:]
    lines = data.split(b"\n")
    for row in table.scan():
        first = lines[int(row.place.split(":")[1]) - 1]
        written = row.fields["a"].split("\n")[0].encode()
        assert first.startswith((written, b'"' + written.replace(b'"', b'""')))


def test_a_broken_row_costs_its_line_alone(tmp_path):
    lines = [
        b"id,text",
        b'1,"open',
        b"2,fine",
        b'3,"a" b',
        b"",
        b"4,\xff",
        b"5,a,b,",
        b"6,a,,",
        b"7",
        b'8,"two',
        b'lines"',
    ]
    table = opened(tmp_path, b"\n".join(lines))
    found = {row.place: row.fields.get("text") if row.fault is None else row.fault.reason for row in table.scan()}
    assert found == {
        "t.csv:2": "invalid_csv",
        "t.csv:3": "fine",
        "t.csv:4": "invalid_csv",
        "t.csv:6": "binary",
        "t.csv:7": "invalid_csv",
        "t.csv:8": "a",
        "t.csv:9": None,
        "t.csv:10": "two\nlines",
    }
    assert [row.place for row in table.rows(3, 5)] == ["t.csv:6", "t.csv:7"]


@pytest.mark.parametrize(
    ("name", "data"),
    [("t.csv", b"id;text\n1;a, b"), ("t.csv", b"id\ttext\n1\ta, b"), ("t.tsv", b"id\ttext\n1\ta, b")],
)
def test_the_separator_is_found(name, data, tmp_path):
    assert [row.fields for row in opened(tmp_path, data, name).scan()] == [{"id": "1", "text": "a, b"}]


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "names its columns"), (b'"a\n', "names its columns"), (b"a,a\n1,2", "several columns")]
)
def test_a_first_row_that_names_no_columns(data, said, tmp_path):
    with pytest.raises(PrefmillError, match=said):
        opened(tmp_path, data)
