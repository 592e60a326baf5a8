"""`prefmill eval reward`: from images, stopped and continued, and from recorded scores alone."""

import json
import shutil

import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.cli.main import app
from prefmill.engine.scorers.catalogue import load_image_scorer
from prefmill.engine.settings import EngineSettings
from prefmill.pipeline.records import Candidate, ImagePreference
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import MANIFEST
from typer.testing import CliRunner

RANKS = {"a": [1, 2, 3], "b": [2, 1, 2], "c": [3, 1, 2]}


def call(*arguments):
    return CliRunner().invoke(app, ["eval", "reward", *map(str, arguments)])


@pytest.fixture(scope="module")
def data(tmp_path_factory, noise):
    """Three prompts with three images each, in ImageReward's form."""
    folder = tmp_path_factory.mktemp("rankings")
    items = []
    for number, (name, ranks) in enumerate(RANKS.items()):
        files = [f"{name}/{image}.png" for image in range(3)]
        (folder / name).mkdir()
        for image, file in enumerate(files):
            noise(10 * number + image).save(folder / file)
        items.append({"id": name, "prompt": f"a {name} cat", "generations": files, "ranking": ranks})
    (folder / "test.json").write_text(json.dumps(items))
    return folder / "test.json"


def write_rows(run, name, rows):
    (run / name).mkdir(parents=True)
    write_shard(run / name, 0, len(rows), type(rows[0]), rows, Footer("work"))
    (run / name / MANIFEST).write_text("{}")


def scored(data, scores, *more):
    chosen = ("--scorer", "clip,again=clip,both=clip:1+pickscore:0.1", "--images", data.parent, "--device", "cpu")
    models = ("--model", "clip=random:clip", "--model", "again=random:clip", "--model", "pickscore=random:pickscore")
    return call(data, *chosen, *models, "--scores", scores, *more)


def test_images_are_scored_and_a_stopped_scoring_goes_on(data, tmp_path):
    scores, report = tmp_path / "scores.jsonl", tmp_path / "report.json"
    result = scored(data, scores, "--to", report, "--json", "--batch-size", 4)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    assert json.loads(report.read_text()) == found
    assert found["data"] | {"path": ""} == found["data"] | {
        "path": "",
        "prompts": 3,
        "images": 9,
        "pairs": 8,
        "ties": 1,
    }
    assert found["scorers"]["clip"]["measures"] == found["scorers"]["again"]["measures"]
    assert found["differences"]["minus"]["again"] == {"value": 0, "low": 0, "high": 0}
    assert "ImageReward, published" in result.stdout
    rows = [json.loads(line) for line in scores.read_text().splitlines()]
    assert [(row["scorer"], row["id"]) for row in rows[:4]] == [
        ("clip", "a"),
        ("clip", "b"),
        ("clip", "c"),
        ("again", "a"),
    ]
    scorer = load_image_scorer("clip", "random:clip", EngineSettings(device="cpu"))
    pictures = [Image.open(data.parent / f"b/{image}.png") for image in range(3)]
    expected = scorer.score(scorer.preprocess(pictures), ["a b cat"] * 3).values
    assert rows[1]["scores"] == pytest.approx(expected.tolist(), abs=1e-5)
    whole = scores.read_bytes()
    scores.write_bytes(b"".join(whole.splitlines(keepends=True)[:1]) + b'{"scorer": "clip", "id"')
    assert scored(data, scores, "--batch-size", 4).exit_code == 0
    assert scores.read_bytes() == whole
    alone = call(data, "--scores", scores, "--json")
    assert json.loads(alone.stdout.splitlines()[-1])["scorers"] == found["scorers"]


def test_an_image_that_cannot_be_read_is_named_or_left_out_and_counted(data, tmp_path):
    folder = shutil.copytree(data.parent, tmp_path / "copy")
    (folder / "b" / "1.png").write_bytes(b"no image")
    arguments = (
        "--scorer",
        "clip",
        "--model",
        "clip=random:clip",
        "--images",
        folder,
        "--scores",
        tmp_path / "s.jsonl",
    )
    result = call(folder / "test.json", *arguments)
    assert isinstance(result.exception, PrefmillError)
    assert "item b: " in result.exception.message
    result = call(folder / "test.json", *arguments, "--allow-partial")
    assert "coverage: 2 of 3 items; 1 left out, as b: " in result.stdout
    shutil.copy(data.parent / "b" / "1.png", folder / "b" / "1.png")
    assert call(folder / "test.json", *arguments).exit_code == 0, "what was broken is scored when it is mended"


def test_scores_of_other_weights_are_not_taken_for_these(data, tmp_path):
    row = {"scorer": "clip", "id": "a", "key": "clip@000000000000", "scores": [1, 2, 3]}
    (tmp_path / "s.jsonl").write_text(json.dumps(row) + "\n")
    arguments = ("--scorer", "clip", "--model", "clip=random:clip", "--images", data.parent)
    result = call(data, *arguments, "--scores", tmp_path / "s.jsonl")
    assert isinstance(result.exception, PrefmillError)
    assert "was clip@000000000000 there" in result.exception.message


def test_a_runs_preferences_by_aspect(tmp_path):
    run = tmp_path / "run"
    for name, images in (("candidates-a", "xy"), ("candidates-b", "z")):
        drawn = [Candidate(image, "p", 8, 8, b"", "m") for image in images]
        write_rows(run, name, drawn)
    pairs = [("overall", "x", "y"), ("overall", "z", "y"), ("aesthetic", "y", "z")]
    rows = [ImagePreference(f"{n}", "p", "a cat", aspect, one, two) for n, (aspect, one, two) in enumerate(pairs)]
    write_rows(run, "image_preferences", rows)
    scores = tmp_path / "s.jsonl"
    scores.write_text(json.dumps({"id": "p", "scores": [3.0, 2.0, 1.0]}) + "\n")
    result = call(run, "--scores", scores, "--json")
    assert result.exit_code == 0, result.output
    measures = json.loads(result.stdout.splitlines()[-1])["scorers"]["s"]["measures"]
    assert {name: (one["over"], one["of"]) for name, one in measures.items()} == {
        "overall": (1, 2),
        "aesthetic": (1, 1),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to evaluate"),
        (("--scorer", "clop"), "no image scorer 'clop'"),
        (("--scorer", "clip,clip"), "'clip' twice"),
        (("--scorer", "clip", "--model", "blip=random:blip"), "--model names 'blip'"),
        (("--scorer", "clip", "--model", "clip"), "'clip' is not NAME=FOLDER"),
        (("--scorer", "both=clip:x"), "'x' is no weight"),
        (("--scores", "nowhere.jsonl"), "nowhere.jsonl does not exist"),
        (("--scores", "s.jsonl", "--validation", "v.json"), "--validation chooses nothing"),
        (("--scorer", "clip", "--model", "clip=random:clip", "--device", "cpu"), "folder is not given"),
    ],
)
def test_mistakes(data, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(data, *arguments)
    assert isinstance(result.exception, PrefmillError), result.output
    assert message in str(result.exception)
