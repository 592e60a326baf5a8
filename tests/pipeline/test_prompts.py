"""Prompts are read unharmed, in order, under their own names; what cannot be one is a reject with its place."""

import csv
import hashlib
import io
import json
import os
import random
import threading
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.columns import from_batch, to_table
from prefmill.pipeline.prompts import PromptsConfig, read_prompts
from prefmill.pipeline.records import Prompt, Reject
from prefmill.pipeline.stages.prompts import prompt_source

# Every character here at which str.splitlines, str.strip or universal newlines would cut or change a prompt.
AWKWARD = ["plain", " leading and trailing  ", "form\x0cfeed", "vertical\x0btab", "line\u2028separator", "next\x85line"]
AWKWARD += ["tab\there", "emoji 🦋 e\u0301", "no-break\u00a0space", 'quote " and \\ backslash', "{braces} and <image>"]


def read(path, data=None, **settings) -> list[Any]:
    if data is not None:
        path.write_bytes(data)
    return read_prompts(PromptsConfig(path=str(path), **settings))


def texts(items):
    return [item.text for item in items if isinstance(item, Prompt)]


def reasons(items):
    return {item.subject_id: item.reason for item in items if isinstance(item, Reject)}


def test_text_lines_keep_every_character_with_either_line_end_and_a_byte_order_mark(tmp_path):
    unix = read(tmp_path / "unix.txt", "\n".join(AWKWARD).encode())
    windows = read(tmp_path / "windows.txt", b"\xef\xbb\xbf" + "\r\n".join(AWKWARD).encode() + b"\r\n")
    assert texts(unix) == AWKWARD
    assert texts(windows) == AWKWARD
    assert [item.id for item in unix] == [item.id for item in windows]
    assert [item.source for item in unix] == [f"unix.txt:{line}" for line in range(1, len(AWKWARD) + 1)]


@pytest.mark.parametrize(
    "kind", ["list.json", "objects.json", "rows.jsonl", "ROWS.JSONL", "table.parquet", "saved", "t.csv", "t.tsv"]
)
def test_every_format_gives_the_same_texts(kind, tmp_path):
    path, rows = tmp_path / kind, [{"caption": text} for text in AWKWARD]
    if kind == "list.json":
        path.write_text(json.dumps(AWKWARD))
    elif kind == "objects.json":
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    elif path.suffix.lower() == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix in {".csv", ".tsv"}:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
            writer.writerows([["id", "caption"], *(["", text] for text in AWKWARD)])
    elif kind == "table.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    else:
        import datasets

        datasets.Dataset.from_list(rows).save_to_disk(str(path))
    assert texts(read(path)) == AWKWARD


def test_real_prompts_come_through_byte_for_byte_in_order_under_their_ids(shared, tmp_path):
    rows = json.loads((shared / "data/refl-prompts.json").read_text(encoding="utf-8"))
    some = random.Random(7).sample(rows, 200)
    items = read(tmp_path / "prompts.json", json.dumps(some).encode())
    assert all(isinstance(item, Prompt) for item in items)
    expected = [hashlib.sha256(row["text"].encode()).hexdigest() for row in some]
    assert [hashlib.sha256(text.encode()).hexdigest() for text in texts(items)] == expected
    assert [item.source for item in items] == [row["image"] for row in some]
    assert [item.index for item in items] == list(range(1, 201))
    assert len({item.id for item in items}) == 200
    # an id depends on the prompt alone, not on its place in the file
    backwards = read(tmp_path / "backwards.json", json.dumps(some[::-1]).encode())
    assert [item.id for item in backwards] == [item.id for item in items][::-1]


def test_fields_of_the_sample_are_read(shared):
    first, *_ = read(shared / "data/pdsdpo-sample/prompts.jsonl")
    assert (first.source, first.topic, first.index) == ("art-1", "art", 1)
    assert first.instructions[0].startswith("How does the use of bold strokes")


def test_a_prompt_can_bring_several_instructions(tmp_path):
    asked = [["What is it?", "", "How many?", "What is it?"], "What is it?", [], None]
    rows = [{"id": str(number), "text": "a kite", "question": value} for number, value in enumerate(asked)]
    items = read(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert [item.instructions for item in items] == [("What is it?", "How many?"), ("What is it?",), (), ()]
    assert len({item.id for item in items}) == 4
    assert list(from_batch(Prompt, to_table(Prompt, items))) == items


def test_one_broken_line_costs_one_line(tmp_path):
    lines = [json.dumps({"text": f"prompt {number}"}) for number in range(1, 11)]
    lines[6] = '{"text": "prompt 7"'
    items = read(tmp_path / "rows.jsonl", "\n".join(lines).encode())
    assert reasons(items) == {"rows.jsonl:7": "invalid_json"}
    assert texts(items) == [f"prompt {number}" for number in range(1, 11) if number != 7]
    assert [item.index for item in items if isinstance(item, Prompt)] == [1, 2, 3, 4, 5, 6, 8, 9, 10]


def test_unusable_prompts_are_rejected_one_by_one_between_good_ones(tmp_path):
    data = b"good\n\n   \n" + b"x" * (1 << 20) + b"\n\x00\x01binary\n\xff\xfenot utf-8\nstill good\n"
    items = read(tmp_path / "rows.txt", data)
    assert texts(items) == ["good", "still good"]
    assert reasons(items) == {
        "rows.txt:2": "empty",
        "rows.txt:3": "empty",
        "rows.txt:4": "too_long",
        "rows.txt:5": "binary",
        "rows.txt:6": "binary",
    }
    assert max(len(item.detail) for item in items if isinstance(item, Reject)) < 500  # not the megabyte itself


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": 7}', "not_a_prompt"),
        (b"[1]", "not_a_prompt"),
        (b"null", "not_a_prompt"),
        (b'{"topic": "art"}', "no_text"),
        (b'{"text": ""}', "empty"),
        (b'{"text": "half \\ud800 a character"}', "invalid_text"),  # would end the run where it is stored
        (b'{"text": "x", "id": "\\udfff"}', "invalid_text"),
        (b"[" * 100_000, "invalid_json"),  # deeper than Python's stack
        (b'{"text": "x", "id": ' + b"9" * 5000 + b"}", "invalid_json"),
    ],
)
def test_rows_of_the_wrong_kind(line, reason, tmp_path):
    items = read(tmp_path / "rows.jsonl", line + b'\n{"text": "good \\ud83e\\udd8b"}\n')
    assert reasons(items) == {"rows.jsonl:1": reason}
    assert texts(items) == ["good 🦋"]


def test_the_second_of_two_rows_with_one_id_is_a_duplicate(tmp_path):
    rows = [{"id": "a", "text": "one"}, {"id": "a", "text": "two"}, {"id": "b", "text": "one"}]
    items = read(tmp_path / "rows.json", json.dumps(rows).encode())
    assert texts(items) == ["one", "one"]  # the same text under another id is another prompt
    assert reasons(items) == {"rows.json:2": "duplicate"}
    assert "rows.json:1" in items[1].detail
    assert reasons(read(tmp_path / "rows.txt", b"one\ntwo\none\n")) == {"rows.txt:3": "duplicate"}


def test_a_file_that_grows_keeps_the_work_on_its_old_rows(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("one\ntwo\n")
    before = prompt_source(PromptsConfig(path=str(path)))
    path.write_text("one\ntwo\nthree\n")
    after = prompt_source(PromptsConfig(path=str(path)))
    assert list(after.keys(0, 2)) == list(before.keys(0, 2))
    assert len(after) == 3
    assert len(read(path, limit=2)) == 2


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("picture.png", png(), "PNG image"),
        ("prompts.txt", png(), "PNG image"),
        ("prompts.jsonl", png(), "PNG image"),
        ("prompts.txt", "a cat\n".encode("utf-16"), "UTF-16"),
        ("prompts.txt", b"", "no prompts"),
        ("prompts.json", b'[{"text": "a"}', "not valid JSON"),
        ("prompts.json", b"[" * 100_000, "not valid JSON"),
        ("prompts.json", b'{"text": "a"}', "not a list"),
        ("prompts.parquet", b"PAR1 and nothing more", "cannot read"),
        ("prompts.csv", b"", "names its columns"),
        ("prompts.csv", b"id,text\n", "no prompts"),
    ],
)
def test_a_file_of_another_kind_is_refused_as_a_whole(name, data, said, tmp_path):
    with pytest.raises(PrefmillError) as caught:
        read(tmp_path / name, data)
    assert said in caught.value.message
    assert name in caught.value.message
    assert caught.value.fix


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PrefmillError, match=r"nowhere\.txt"):
        read(tmp_path / "nowhere.txt")


@pytest.mark.parametrize("path", ["~nosuchuser/prompts.txt", "x" * 300, "x/" * 3000, ""])
def test_what_is_no_path_is_named_with_its_option(path):
    with pytest.raises(PrefmillError, match="--prompts"):
        read(path)


def test_prompts_from_a_pipe_are_all_read(tmp_path):
    pipe, lines = tmp_path / "prompts.fifo", [f"prompt number {number}" for number in range(20_000)]
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("\n".join(lines),), daemon=True)
    writer.start()
    assert texts(read(pipe)) == lines
    assert texts(read(pipe)) == lines  # as looking at the input before a run does
    writer.join(5)
    assert not writer.is_alive()


def test_a_data_set_without_that_split_or_without_data_is_named(tmp_path):
    import datasets

    rows = datasets.Dataset.from_list([{"text": "a cat"}])
    datasets.DatasetDict({"test": rows}).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(PrefmillError, match="no split train; its splits: test"):
        read(tmp_path / "saved")
    assert texts(read(tmp_path / "saved", split="test")) == ["a cat"]
    with pytest.raises(PrefmillError, match="without a data set"):
        read(tmp_path / "empty")


def test_half_a_character_in_a_field_that_is_not_read_costs_nothing(tmp_path):
    (item,) = read(tmp_path / "rows.jsonl", b'{"text": "a cat", "comment": "\\ud800"}\n')
    assert item.text == "a cat"


def test_an_embedded_image_names_its_prompt_by_its_path_and_not_by_its_bytes(tmp_path):
    images = [{"bytes": b"x" * 100, "path": "cat.png"}, {"bytes": b"y", "path": None}]
    rows = [{"image": image, "text": f"prompt {number}"} for number, image in enumerate(images)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert [item.source for item in read(tmp_path / "t.parquet")] == ["cat.png", "t.parquet:2"]
