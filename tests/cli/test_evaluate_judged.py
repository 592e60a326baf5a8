"""`prefmill eval pope|objhal|mmhal` from the command line: a model writes the answers, a judge rates them."""

import json

import numpy as np
import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.bench.loopback import serving
from prefmill.cli import main
from prefmill.cli.evaluate_models import chosen_models
from typer.testing import CliRunner

from ..engine.responders.server.fake_chat import FakeChat, completion, text_of


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def written(path, rows):
    path.write_text(json.dumps(rows))
    return path


def called(*arguments):
    result = CliRunner().invoke(main.app, ["eval", *map(str, arguments)], terminal_width=200)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def test_a_model_here_answers_pope(tmp_path, images):
    rows = [
        {"question_id": number, "image": f"{number % 2}.png", "text": "Is there a red cube?", "label": label}
        for number, label in enumerate(["yes", "no", "no"], 1)
    ]
    questions = written(tmp_path / "coco_pope_random.json", rows)
    target = tmp_path / "answers.jsonl"
    common = ["pope", "--questions", questions, "--answers", target, "--json"]
    told = called(*common, "--model", "micro:policy", "--images", images, "--set", "engine.device=cpu")
    report = json.loads(told.splitlines()[-1])
    said = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["question_id"] for row in said] == [1, 2, 3]
    assert report["coverage"]["answered"] == 3
    assert (tmp_path / "answers.jsonl.written" / "replies.jsonl").exists()
    again = json.loads(called(*common).splitlines()[-1])
    assert again["measures"] == report["measures"]


def test_mmhal_by_a_served_model_and_a_served_judge(tmp_path, images):
    items = [
        {
            **{"question_type": f"t{number % 8}", "image_id": "x", "image_src": f"https://a/{number % 2}.png"},
            **{"image_content": ["Cat"], "question": f"What? {number}", "gt_answer": "A cat."},
        }
        for number in range(96)
    ]
    questions, report = written(tmp_path / "template.json", items), tmp_path / "report.json"
    fake = FakeChat(lambda body, number: completion("Rating: 4" if "A cat." in text_of(body) else "It shows a cat."))
    with serving(fake) as url:
        settings = [
            part
            for name in ("model", "judge")
            for part in ("--set", f"{name}.backend=openai", "--set", f"{name}.url={url}/v1")
        ]
        command = ["mmhal", "--questions", questions, "--answers", tmp_path / "a.jsonl", "--images", images]
        command += ["--model", "answers", "--judge", "judges", *settings, "--to", report]
        text = called(*command)
        asked = len(fake.bodies)
        called(*command)
    assert asked == len(fake.bodies)
    # a request that is late on a busy machine is sent again, so requests are counted and not how often they were sent
    assert len({(body["model"], text_of(body)) for body in fake.bodies}) == 192
    assert "MMHal-Bench (judge judges@127.0.0.1" in text
    found = json.loads(report.read_text())
    assert found["measures"][0]["value"] == 4
    assert {one["group"] for one in found["measures"]} == {"all", *(f"t{place}" for place in range(8))}
    assert found["settings"]["template"] == "prefmill-1"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["judge.backend=openai"], "no --judge is given"),
        (["device=cpu"], "nothing here has that setting"),
        (["model.colour=red"], "unknown setting colour"),
        (["engine.device=tpu"], "device"),
    ],
)
def test_mistakes_in_settings(settings, words):
    with pytest.raises(PrefmillError, match=words):
        chosen_models(settings, model="any", judge=None)


def test_a_backend_brings_its_own_batch_size():
    found = chosen_models(["model.backend=openai", "sampling.temperature=0.5"], model="any")
    assert found.choices["model"].batch_size == 256
    assert found.sampling is not None
    assert found.sampling.temperature == 0.5
