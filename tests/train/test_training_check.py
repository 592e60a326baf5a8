"""A quick evaluation after a training: what is there is checked first, both sides are asked, the manifest keeps it."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.bench.training_check import TrainingCheck, check_training
from prefmill.cli.train import EvaluationOptions
from prefmill.engine.checkpoint import checkpoint_key
from prefmill.train.adapter import lora_targets
from prefmill.train.manifest import read_manifest
from transformers import AutoModelForImageTextToText


@pytest.fixture(scope="module")
def finished(model_folder, finish, tmp_path_factory):
    """A finished training with an adapter on all linear layers that is not zero."""
    output = tmp_path_factory.mktemp("check") / "output"
    model = AutoModelForImageTextToText.from_pretrained(model_folder)
    torch.manual_seed(0)
    lora = LoraConfig(r=4, lora_alpha=64, target_modules=lora_targets(model), init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(output / "adapter", save_embedding_layers=False)
    finish(output, checkpoint_key(model_folder))
    return output


def manifest_of(output):
    manifest = read_manifest(output)
    assert manifest is not None
    return manifest


@pytest.fixture
def pope(tmp_path):
    """Questions of two categories about one image, and the folder of images."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (56, 56), (200, 0, 0)).save(tmp_path / "images" / "a.png")
    for category in ("random", "popular"):
        rows = [
            {"question_id": number, "image": "a.png", "text": f"Is there a {number}?", "label": "yes"}
            for number in range(1, 5)
        ]
        (tmp_path / f"coco_pope_{category}.json").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path, tmp_path / "images"


def test_both_sides_are_asked_and_the_manifest_keeps_what_came_out(finished, pope):
    questions, images = pope
    check = TrainingCheck.of("pope", questions, images, 5)
    assert check.count == 4  # two of each category
    evaluated = check_training(check, finished, manifest_of(finished), Progress())
    found = evaluated.evaluation
    assert found is not None
    assert (found["benchmark"], found["n"]) == ("pope", 4)
    sides = {
        side: [json.loads(line) for line in (finished / "evaluation" / f"{side}.jsonl").read_text().splitlines()]
        for side in ("before", "after")
    }
    assert [row["question_id"] for row in sides["before"]] == [1, 3, 1, 3]
    assert [row["answer"] for row in sides["before"]] != [row["answer"] for row in sides["after"]]
    reports = [json.loads((finished / "evaluation" / f"{side}.json").read_text()) for side in sides]
    accuracy = [
        next(one["value"] for one in report["measures"] if (one["group"], one["name"]) == ("random", "accuracy"))
        for report in reports
    ]
    assert found["measures"]["random: accuracy"] == accuracy
    assert read_manifest(finished) == evaluated
    assert json.loads((finished / "evaluation.json").read_text()) == found
    before = (finished / "evaluation" / "before.jsonl.written" / "replies.jsonl").read_bytes()
    assert check_training(check, finished, evaluated, Progress()).evaluation == found
    assert (finished / "evaluation" / "before.jsonl.written" / "replies.jsonl").read_bytes() == before


def test_micro_scenes(finished):
    check = TrainingCheck.of("micro", None, None, 2)
    found = check_training(check, finished, manifest_of(finished), Progress()).evaluation
    assert found is not None
    assert (found["benchmark"], found["n"], found["count"]) == ("micro", 2, 2)
    assert len(found["measures"]["pope_accuracy"]) == 2
    assert "NaN" not in (finished / "evaluation.json").read_text()


def test_what_is_missing_is_found_before_a_training(pope, tmp_path):
    questions, images = pope
    with pytest.raises(PrefmillError, match="'sugar' is not known"):
        TrainingCheck.of("sugar", None, None, None)
    with pytest.raises(PrefmillError, match="needs POPE's questions"):
        TrainingCheck.of("pope", questions, None, None)
    (images / "a.png").unlink()
    with pytest.raises(PrefmillError, match="8 of 8 questions have no usable image: question random/1"):
        TrainingCheck.of("pope", questions, images, None)
    with pytest.raises(PrefmillError, match="does not exist"):
        TrainingCheck.of("pope", tmp_path / "none", images, None)
    with pytest.raises(PrefmillError, match="draws its own scenes"):
        TrainingCheck.of("micro", questions, None, None)
    with pytest.raises(PrefmillError, match="belong to --eval"):
        EvaluationOptions(count=3).check()
    assert EvaluationOptions().check() is None
