"""One reader for all kinds of tables: the same rows from each, by number, each with its place or its fault."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.tables.formats import open_table

# Every character here at which str.splitlines, csv or universal newlines would cut or change a text.
AWKWARD = ["plain", " spaces  ", "form\x0cfeed", "vertical\x0btab", "line\u2028separator", "next\x85line", "a,b;c\td"]
AWKWARD += ['quote "q" and \\', "=1+1", "🦋 e\u0301"]


def write(path, rows):
    kind = path.suffix
    if kind == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    elif kind in (".jsonl", ".ndjson", ""):
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    elif kind in (".csv", ".tsv"):
        separator = "," if kind == ".csv" else "\t"
        lines = [["id", "text"], *([row["id"], row["text"].replace('"', '""')] for row in rows)]
        text = "\r\n".join(separator.join(f'"{cell}"' for cell in line) for line in lines)
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    else:
        import datasets

        datasets.Dataset.from_list(rows).save_to_disk(str(path))
    return path


@pytest.mark.parametrize("name", ["t.csv", "T.TSV", "t.json", "t.jsonl", "t.ndjson", "t", "t.parquet", "t.saved"])
def test_every_kind_gives_the_same_rows_by_number(name, tmp_path):
    rows = [{"id": str(number), "text": text} for number, text in enumerate(AWKWARD)]
    path = tmp_path / name
    table = open_table(write(path.with_suffix(path.suffix.lower()), rows).rename(path), "--prompts")
    assert [row.fields for row in table.scan()] == rows
    assert len(table) == len(rows)
    assert [row.number for row in table.rows(4, 7)] == [4, 5, 6]
    assert [row.fields for row in table.rows(7, 99)] == rows[7:]
    assert [row.fields for row in table.rows(2, 3)] == rows[2:3]
    assert [row.place for row in table.rows(0, 2)] == [
        f"{name}:{n + (name.lower() in ('t.csv', 't.tsv'))}" for n in (1, 2)
    ]
    assert table.rows(99, 100) == []


def test_plain_text_is_a_row_only_where_that_is_asked(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbfone\r\n\n{two}\n\xff\nlast")
    table = open_table(tmp_path / "t.txt", "--prompts", text_column="prompt")
    assert [row.fields.get("prompt") for row in table.scan()] == ["one", "", "{two}", None, "last"]
    assert [row.fault.reason for row in table.scan() if row.fault] == ["binary"]
    assert table.rows(3, 4)[0].place == "t.txt:4"
    with pytest.raises(PrefmillError, match="neither JSON nor Parquet"):
        open_table(tmp_path / "t.txt", "--pairs")
    (tmp_path / "t.jsonl").write_text('"text"\n\n{"a": 1}\n')
    assert [row.fields for row in open_table(tmp_path / "t.jsonl", "--x", text_column="p").scan()] == [
        {"p": "text"}, {"p": ""}, {"a": 1},
    ]  # fmt: skip
    strict = list(open_table(tmp_path / "t.jsonl", "--x").scan())
    assert [(row.place, row.fault.reason if row.fault else None) for row in strict] == [
        ("t.jsonl:1", "not_an_object"),
        ("t.jsonl:3", None),
    ]


def test_json_lines_are_utf_8_row_by_row(tmp_path):
    lines = [b'{"a": "\\ud83e\\udd8b"}', b'{"a": "\xff"}', b'{"a": "\\ud800", "b": 1}', b'{"a"', b"\xef\xbb\xbf{}"]
    (tmp_path / "t.jsonl").write_bytes(b"\n".join(lines))
    rows = list(open_table(tmp_path / "t.jsonl", "--answers").scan())
    assert [row.fault.reason if row.fault else None for row in rows] == [
        None, "binary", "invalid_text", "invalid_json", None,
    ]  # fmt: skip
    assert rows[0].fields == {"a": "🦋"}


def test_folders_that_hold_no_table_say_so(tmp_path):
    import datasets

    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/state.json").write_text("{}")
    rows = datasets.Dataset.from_list([{"text": "a"}])
    datasets.DatasetDict({"test": rows, "dev": rows}).save_to_disk(str(tmp_path / "two"))
    for name, said in (
        ("empty", "without a data set"),
        ("broken", "cannot read"),
        ("two", "no split train.*test, dev"),
    ):
        with pytest.raises(PrefmillError, match=said) as caught:
            open_table(tmp_path / name, "--prompts", split="train" if name == "two" else None)
        assert name in caught.value.message
        assert caught.value.fix
    assert len(open_table(tmp_path / "two", "--prompts", split="dev")) == 1
    datasets.DatasetDict({"only": rows}).save_to_disk(str(tmp_path / "one"))
    assert [row.place for row in open_table(tmp_path / "one", "--images").scan()] == ["one:1"]


def test_shards_below_each_other_have_places_of_their_own(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "t" / name).mkdir(parents=True)
        pq.write_table(pa.table({"text": [name]}), tmp_path / "t" / name / "0.parquet")
    assert [row.place for row in open_table(tmp_path / "t", "--images").scan()] == ["a/0.parquet:1", "b/0.parquet:1"]


def test_a_scan_leaves_embedded_bytes_out(tmp_path):
    pq.write_table(pa.table({"image": [b"x" * 10]}), tmp_path / "t.parquet")
    table = open_table(tmp_path / "t.parquet", "--images")
    assert table.embeds
    assert [row.fields for row in table.scan()] == [{}]
    assert table.rows(0, 1)[0].fields == {"image": b"x" * 10}


@pytest.mark.parametrize("name", ["~nosuchuser/t.csv", "x" * 300, "a\0b", "device"])
def test_what_is_no_file_at_all(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("device").symlink_to("/dev/null")
    with pytest.raises(PrefmillError, match="--answers") as caught:
        open_table(name, "--answers")
    assert caught.value.fix
