"""Prompts find their images by the path in the folder; a bare name counts only where it can mean one thing."""

import json
from typing import Any

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.cli.score_prompts import prompted
from prefmill.cli.score_rows import read_rows


@pytest.fixture
def folder(tmp_path):
    for name in ("x/1.png", "y/1.png", "y/2.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "images"


def matched(folder, table) -> tuple[list[Any], list[Any]]:
    path = folder.parent / "prompts.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in table))
    rows = prompted(read_rows(folder), None, path)
    return [row.prompt for row in rows], [row.prompt_fault for row in rows]


def test_images_of_one_name_in_two_folders_have_prompts_of_their_own(folder):
    table = [{"image": "./x/1.png", "prompt": "A"}, {"image": "y\\1.png", "prompt": "B"}]
    assert matched(folder, table)[0] == ["A", "B", None]


def test_a_bare_name_counts_where_it_can_mean_one_thing_only(folder):
    prompts, faults = matched(folder, [{"image": "1.png", "prompt": "A"}, {"image": "z/2.png", "prompt": "B"}])
    assert prompts == [None, None, "B"]
    assert faults[2] is None
    assert all("2 images are called 1.png" in fault for fault in faults[:2])
    # what is meant for one image by its path is not another's by its name
    assert matched(folder, [{"image": "x/1.png", "prompt": "A"}])[0] == ["A", None, None]
    prompts, faults = matched(folder, [{"image": f"{at}/2.png", "prompt": at} for at in ("y", "z")])
    assert prompts == [None, None, "y"]
    prompts, faults = matched(folder, [{"image": f"{at}/2.png", "prompt": at} for at in ("a", "b")])
    assert prompts == [None, None, None]
    assert "2 prompts name it (prompts.jsonl:1, prompts.jsonl:2)" in faults[2]


def test_a_bad_row_of_prompts_is_not_lost(folder):
    prompts, faults = matched(folder, [{"image": "x/1.png", "prompt": "A"}, "{"])
    assert prompts == ["A", None, None]
    assert "prompts.jsonl:2: invalid_json" in faults[1]
    prompts, faults = matched(folder, ['"A"', "{", '"C"'])  # in order
    assert prompts == ["A", None, "C"]
    assert "prompts.jsonl:2: invalid_json" in faults[1]


def test_lines_are_cut_at_line_ends_only(folder):
    path = folder.parent / "lines.txt"
    texts = ["one\u2028more", "two\x0bmore\x85", " three "]
    path.write_text("\n".join(texts), encoding="utf-8", newline="")
    assert [row.prompt for row in prompted(read_rows(folder), None, path)] == texts


@pytest.mark.parametrize("name", ["~nosuchuser/p.txt", "x" * 300, "a\0b"])
def test_what_is_no_path(name, folder):
    with pytest.raises(PrefmillError, match="--prompts"):
        prompted(read_rows(folder), None, name)


def test_a_prompt_that_is_no_text(folder):
    with pytest.raises(PrefmillError, match="not UTF-8"):
        prompted(read_rows(folder), "caf\udce9", None)
