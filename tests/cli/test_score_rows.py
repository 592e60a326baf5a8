"""Rows to score: a bad one is a row with a reason, and the rows around it go on."""

import json
import os

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.cli.score_rows import read_rows


def test_bad_rows_of_a_table_are_rows_with_a_reason(tmp_path):
    lines = [
        '{"answer": "good\u2028one"}',
        "{",
        '{"prompt": "p"}',
        '{"answer": "half \\ud800"}',
        '{"image": {"path": 1}}',
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows = read_rows(tmp_path / "t.jsonl")
    assert rows[0].answer == "good\u2028one"
    words = ("invalid_json", "neither an image nor an answer", "invalid_text", "invalid_field")
    for number, (row, word) in enumerate(zip(rows[1:], words, strict=True), start=2):
        assert row.fault is not None
        assert f"t.jsonl:{number}: " in row.fault
        assert word in row.fault


def test_separated_values_keep_quoted_line_ends_and_an_empty_prompt(tmp_path):
    (tmp_path / "t.csv").write_bytes(b'prompt,answer\r\n"two\r\nlines",a\r\n,b\r\n')
    assert [(row.prompt, row.answer) for row in read_rows(tmp_path / "t.csv")] == [("two\r\nlines", "a"), ("", "b")]


def test_a_file_name_that_is_not_utf_8_is_a_row_with_a_reason(tmp_path):
    (tmp_path / "a.png").touch()
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb"):  # noqa: PTH123 - a name in bytes
        pass
    good, bad = read_rows(tmp_path)
    assert good.image_fault is None
    assert "not UTF-8" in (bad.image_fault or "")


def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(PrefmillError, match="not a regular file"):
        read_rows(tmp_path / "pipe.png")
    (tmp_path / "t.json").write_text(json.dumps([{"image": "pipe.png"}]))
    assert "not a regular file" in (read_rows(tmp_path / "t.json")[0].image_fault or "")
