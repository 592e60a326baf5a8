"""`prefmill score`: folders and tables, every kind of image, bad rows with reasons, the three formats, the sheet."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.engine.scorers.image_reward import ImageRewardScorer
from prefmill.engine.scorers.text_reward import ATTRIBUTES
from prefmill.engine.settings import EngineSettings
from pyarrow import parquet

MODELS = ["imagereward=random:image-reward", "clip=random:clip", "blip=random:blip", "aesthetic=random:aesthetic"]


@pytest.fixture
def folder(tmp_path, noise):
    """Seven images of all kinds that are fine, and four that are not."""
    place = tmp_path / "images"
    place.mkdir()
    picture = noise(0)
    picture.save(place / "rgb.png")
    picture.convert("L").save(place / "grey.png")
    picture.convert("P").save(place / "palette.png")
    alpha = picture.copy()
    alpha.putalpha(Image.new("L", picture.size, 7))
    alpha.save(place / "alpha.png")
    picture.convert("CMYK").save(place / "cmyk.jpg")
    Image.fromarray(np.linspace(0, 65535, 1600).reshape(40, 40).astype(np.uint16)).save(place / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(place / "turned.png", exif=exif)
    (place / "empty.png").write_bytes(b"")
    (place / "text.jpg").write_text("not an image")
    (place / "cut.png").write_bytes((place / "rgb.png").read_bytes()[:900])
    Image.new("RGB", (1, 1)).save(place / "dot.png")
    (place / "notes.txt").write_text("not looked at")
    return place


def test_a_folder_of_all_kinds_of_images(folder, tmp_path, capsys, score):
    rows = {Path(row["image"]).name: row for row in score(folder, tmp_path / "out.json", prompt="a red cat")}
    assert len(rows) == 11
    problems = {name: row["problem"] for name, row in rows.items() if row["imagereward"] is None}
    assert problems.keys() == {"empty.png", "text.jpg", "cut.png", "dot.png"}
    for name, word in (("empty", "empty"), ("text", "unreadable"), ("cut", "truncated"), ("dot", "too_small")):
        assert word in next(problem for file, problem in problems.items() if file.startswith(name))
    scorer = ImageRewardScorer.from_pretrained("random:image-reward", EngineSettings(device="cpu"))
    for name, row in rows.items():
        if name in problems or name == "sixteen.png":  # Pillow's own conversion of 16 bits clips; ours does not
            continue
        expected = scorer.rank("a red cat", [Image.open(folder / name).convert("RGB")]).scores[0]
        assert row["imagereward"] == pytest.approx(expected, abs=1e-5)
    # Neither alpha nor the orientation changes a score: both are dropped, as the reference does.
    assert rows["alpha.png"]["imagereward"] == pytest.approx(rows["rgb.png"]["imagereward"], abs=1e-5)
    assert rows["turned.png"]["imagereward"] == pytest.approx(rows["rgb.png"]["imagereward"], abs=1e-5)
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["rows"], summary["problems"]) == (11, 4)
    assert summary["models"]["imagereward"].startswith("image_reward@")


def test_the_contact_sheet_is_sorted_by_score(tmp_path, score):
    place = tmp_path / "flat"
    place.mkdir()
    colours = {"a": (250, 20, 20), "b": (20, 250, 20), "c": (20, 20, 250)}
    for name, colour in colours.items():
        Image.new("RGB", (64, 64), colour).save(place / f"{name}.png")
    rows = score(place, tmp_path / "out.json", prompt="a red cat", sheet=tmp_path / "best.png")
    best = sorted(rows, key=lambda row: -row["imagereward"])
    sheet = Image.open(tmp_path / "best.png").convert("RGB")
    for number, row in enumerate(best):
        pixel = np.asarray(sheet.getpixel((192 * number + 96, 96)))
        assert np.abs(pixel - colours[Path(row["image"]).stem]).max() < 5


def test_a_path_in_a_table_cannot_leave_its_folder(tmp_path, noise, score):
    outside, place = tmp_path / "outside.png", tmp_path / "table"
    place.mkdir()
    noise(0).save(outside)
    noise(0).save(place / "inside.png")
    (place / "link.png").symlink_to(outside)
    names = ["inside.png", "../outside.png", str(outside), "link.png"]
    (place / "rows.json").write_text(json.dumps([{"image": name, "prompt": "a red cat"} for name in names]))
    rows = score(place / "rows.json", tmp_path / "out.json")
    assert [row["imagereward"] is not None for row in rows] == [True, False, False, False]
    problems = [row["problem"] or "" for row in rows]
    words = ("", "climbs out", "not a path inside", "leads out")
    assert all(word in problem for word, problem in zip(words, problems, strict=True))
    rows = score(place / "rows.json", tmp_path / "out.json", root=tmp_path / "table" / "..")
    assert [row["imagereward"] for row in rows] == [None] * 4
    (place / "rows.json").write_text(json.dumps([{"image": "outside.png", "prompt": "a red cat"}]))
    [row] = score(place / "rows.json", tmp_path / "out.json", root=tmp_path)
    assert row["problem"] is None


def test_all_scorers_over_a_table_with_answers(tmp_path, noise, score):
    for number in range(3):
        noise(number).save(tmp_path / f"{number}.png")
    table = [
        {"image": "0.png", "prompt": "a red cat", "answer": "A cat."},
        {"image": "0.png", "prompt": "a red cat", "answer": "Two dogs."},
        {"image": "1.png", "prompt": "", "answer": " "},
        {"image": "2.png", "prompt": "word " * 300, "answer": None},
        {"image": "missing.png", "prompt": "a red cat", "answer": "A cat."},
        {"image": "1.png", "answer": "A cat."},
    ]
    (tmp_path / "rows.json").write_text(json.dumps(table))
    rows = score(
        tmp_path / "rows.json",
        tmp_path / "out.json",
        "imagereward,clip,blip,aesthetic,armorm",
        models=[*MODELS, "armorm=random:text-reward"],
    )
    assert rows[0]["armorm"] != rows[1]["armorm"]
    assert rows[0]["clip"] == pytest.approx(rows[1]["clip"], abs=1e-6)
    assert {f"armorm_{name}" for name in ATTRIBUTES} <= rows[0].keys()
    assert rows[2]["armorm"] is None
    assert rows[2]["problem"] == "empty answer"
    assert rows[2]["imagereward"] is not None
    assert rows[3]["problem"] == "no answer"
    assert [rows[3][f"{name}_truncated"] for name in ("imagereward", "clip", "blip", "aesthetic")] == [
        True, True, True, False,
    ]  # fmt: skip
    assert rows[0]["imagereward_truncated"] is False
    assert "not readable" in rows[4]["problem"]
    assert rows[4]["armorm"] == pytest.approx(rows[0]["armorm"], abs=1e-5)
    assert "no prompt" in rows[5]["problem"]
    assert rows[5]["aesthetic"] == pytest.approx(rows[2]["aesthetic"], abs=1e-5)


def test_the_formats_say_the_same(tmp_path, noise, score):
    place = tmp_path / "images"
    place.mkdir()
    for number in range(3):
        noise(number).save(place / f"{number}.png")
    (place / "bad.png").write_bytes(b"")
    expected = score(place, tmp_path / "out.json", prompt="a red cat")
    for ending in ("csv", "parquet", "jsonl"):
        score(place, tmp_path / f"out.{ending}", prompt="a red cat")
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == expected
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == expected
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["imagereward"] or "nan") for row in rows] == pytest.approx(
        [row["imagereward"] if row["imagereward"] is not None else float("nan") for row in expected], nan_ok=True
    )


def test_prompts_by_order_and_by_name(tmp_path, noise, score):
    place = tmp_path / "images"
    place.mkdir()
    for number in range(3):
        noise(number).save(place / f"{number}.png")
    (tmp_path / "lines.txt").write_text("first\nsecond\nthird\n")
    named = [{"image": f"{number}.png", "prompt": text} for number, text in ((2, "third"), (0, "first"))]
    (tmp_path / "named.jsonl").write_text("".join(json.dumps(row) + "\n" for row in named))
    by_order = score(place, tmp_path / "a.json", prompts=tmp_path / "lines.txt")
    by_name = score(place, tmp_path / "b.json", prompts=tmp_path / "named.jsonl")
    assert [row["prompt"] for row in by_order] == ["first", "second", "third"]
    assert [row["prompt"] for row in by_name] == ["first", None, "third"]
    assert by_name[1]["problem"] == "no prompt"
    assert by_name[2]["imagereward"] == pytest.approx(by_order[2]["imagereward"], abs=1e-5)
    (tmp_path / "lines.txt").write_text("only one\n")
    with pytest.raises(PrefmillError, match="1 prompts for 3 rows"):
        score(place, tmp_path / "a.json", prompts=tmp_path / "lines.txt")


def test_a_mixture_is_the_weighted_sum_of_its_parts(tmp_path, noise, score):
    (tmp_path / "images").mkdir()
    for number in range(2):
        noise(number).save(tmp_path / "images" / f"{number}.png")
    asked = "both=imagereward:1+clip:30,imagereward,clip"
    rows = score(tmp_path / "images", tmp_path / "out.json", asked, prompt="a red cat")
    for row in rows:
        assert row["both"] == pytest.approx(row["imagereward"] + 30 * row["clip"], abs=1e-4)
        assert row["both_truncated"] is False


def test_one_image_and_a_report_for_people(tmp_path, capsys, noise, score):
    noise(0).save(tmp_path / "one.png")
    score(tmp_path / "one.png", tmp_path / "out.json", prompt="a red cat", as_json=False, sheet=tmp_path / "best.png")
    printed = capsys.readouterr().out
    assert "imagereward: 1 of 1 scored" in printed
    assert str(tmp_path / "best.png") in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scorer": "imagerewrad"}, "no image scorer 'imagerewrad'"),
        ({"scorer": ""}, "no scorer"),
        ({"scorer": "armorm"}, "no column `answer`"),
        ({"to": "out.xlsx"}, "no ending that names a format"),
        ({"images": "nowhere"}, "does not exist"),
        ({"images": "empty"}, "holds no images"),
        ({"images": "broken.json"}, "not valid JSON"),
        ({"images": "broken.parquet"}, "cannot read broken.parquet"),
        ({"images": "object.json"}, "holds a dict, not a list"),
        ({"images": "columns.csv"}, "neither an image nor an answer"),
        ({"prompts": Path("nowhere.txt")}, "does not exist"),
        ({"prompt": "a", "prompts": Path("nowhere.txt")}, "both --prompt and --prompts"),
        ({"models": ["clip=x"], "scorer": "clip,blip", "device": "gpu"}, "device"),
        ({"batch_size": 0}, "scores nothing"),
        ({"models": ["imagereward=random:clip"]}, "expected 'image_reward'"),
        ({"models": ["imagereward="]}, "is not NAME=FOLDER"),
        ({"scorer": "problem=imagereward", "models": []}, "calls one 'problem', as another column"),
        ({"scorer": "aesthetic", "models": []}, "no published folder"),
    ],
)
def test_what_cannot_be_done_says_so(tmp_path, monkeypatch, change, message, noise, score):
    monkeypatch.chdir(tmp_path)
    noise(0).save(tmp_path / "one.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("[{")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "object.json").write_text("{}")
    (tmp_path / "columns.csv").write_text("picture,words\n1.png,a cat\n")
    arguments = {"images": "one.png", "to": "out.json", "prompt": None if "prompts" in change else "a cat", **change}
    with pytest.raises(PrefmillError, match=message) as caught:
        score(**arguments)
    assert caught.value.fix
