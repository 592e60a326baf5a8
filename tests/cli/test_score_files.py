"""What scoring writes: nowhere it should not, found before the work, and safe to open in a spreadsheet."""

import csv
import json
import os
from pathlib import Path

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.cli.score_files import write_table
from pyarrow import parquet


@pytest.fixture
def cat(tmp_path, noise):
    noise(0).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


def test_no_picture_is_written_that_nobody_asked_for(cat, score):
    before = cat.read_bytes()
    score(cat, cat.with_suffix(".csv"), prompt="a cat")
    assert cat.read_bytes() == before
    assert sorted(path.name for path in cat.parent.iterdir()) == ["cat.csv", "cat.png"]


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to, None])
def test_an_input_is_never_written_over(link, cat, score, tmp_path, monkeypatch):
    monkeypatch.setattr("prefmill.cli.score.score_images", None)  # it must not come to that
    (tmp_path / "rows.json").write_text('[{"image": "cat.png", "prompt": "a cat"}]')
    (tmp_path / "prompts.jsonl").write_text('"a cat"\n')
    names = {"cat.png": "--sheet", "rows.json": "--to", "prompts.jsonl": "--to"}
    for name, option in names.items():
        target = tmp_path / (name if link is None else f"link-{name}")
        if link:
            link(target, tmp_path / name)
        outputs = {"to": tmp_path / "out.csv", option.removeprefix("--"): target}
        before = (tmp_path / name).read_bytes()
        images = cat if "jsonl" in name else tmp_path / "rows.json"
        with pytest.raises(PrefmillError, match=f"{option} .* is one of the inputs"):
            score(images, prompts=tmp_path / "prompts.jsonl" if "jsonl" in name else None, **outputs)
        assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({"to": "file/below.csv"}, "cannot write"),
        ({"to": "folder.csv"}, "is a folder"),
        ({"to": "x" * 300 + ".csv"}, "too long"),
        ({"to": "~nosuchuser/a.csv"}, "home directory"),
        ({"to": "a\0.csv"}, "--to"),
        ({"to": "x" * 249 + ".csv"}, "too long"),  # with the beginning of a temporary name
        ({"to": "a.csv", "sheet": "s.txt"}, "not a picture's name"),
        ({"to": "a.csv", "sheet": "file/below.png"}, "cannot write"),
        ({"to": "a.csv", "sheet": "s.png", "scorer": "armorm"}, "scores none"),
    ],
)
def test_a_place_that_cannot_be_written_is_found_before_the_work(outputs, said, cat, score, tmp_path, monkeypatch):
    monkeypatch.setattr("prefmill.cli.score.score_images", None)
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder.csv").mkdir()
    named = {name: Path(path) if name in ("to", "sheet") else path for name, path in outputs.items()}
    with pytest.raises(PrefmillError, match=said) as caught:
        score(cat, prompt="a cat", **named)
    assert caught.value.fix
    assert not list(tmp_path.glob(".tmp-*"))


def test_an_unwritable_folder_is_found_before_the_work(cat, score, tmp_path, monkeypatch):
    monkeypatch.setattr("prefmill.cli.score.score_images", None)

    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", refuse)  # whoever may write everywhere runs these tests
    with pytest.raises(PrefmillError, match=r"cannot write .*Permission denied"):
        score(cat, tmp_path / "a.csv", prompt="a cat")


def test_cells_that_begin_a_formula_are_made_texts_and_numbers_stay(tmp_path):
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "a=1", "'=1", ""]
    rows = [{"prompt": text, "score": -1.5, "rank": -2} for text in texts]
    write_table(tmp_path / "t.csv", rows)
    with (tmp_path / "t.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["prompt"] for row in read] == [f"'{text}" for text in texts[:6]] + texts[6:]
    assert {(row["score"], row["rank"]) for row in read} == {("-1.5", "-2")}
    for ending in ("json", "parquet"):  # which no spreadsheet takes for formulas
        write_table(tmp_path / f"t.{ending}", rows)
    assert json.loads((tmp_path / "t.json").read_text()) == rows
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist() == rows


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet"])
def test_what_is_not_utf_8_is_written_as_utf_8(ending, cat, score, tmp_path, capfd):
    (tmp_path / "in").mkdir()
    os.rename(cat, os.fsencode(tmp_path) + b"/in/caf\xe9.png")  # noqa: PTH104 - a name in bytes
    score(tmp_path / "in", tmp_path / f"out.{ending}", prompt="a cat", as_json=False)
    data = (tmp_path / f"out.{ending}").read_bytes()
    if ending == "parquet":
        data = str(parquet.read_table(tmp_path / "out.parquet").to_pylist()).encode()
    text = data.decode("utf-8")
    assert "udce9" in text
    assert "not UTF-8" in text
    assert "not scored: " in capfd.readouterr().out


def test_a_text_does_not_steer_the_terminal(score, tmp_path, capfd):
    (tmp_path / "rows.json").write_text(json.dumps([{"answer": "\x1b]0;owned\x07\x1b[31m", "prompt": "p"}]))
    score(tmp_path / "rows.json", tmp_path / "out.json", prompt="p", as_json=False)
    printed = capfd.readouterr().out
    assert "owned" in printed
    assert "\x1b" not in printed
