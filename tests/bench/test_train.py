"""The training benchmark: its arithmetic, its inputs, and a whole tiny run of both sides."""

import contextlib
import json

import huggingface_hub.constants
import pytest
from prefmill.bench import train
from prefmill.bench.train_inputs import TINY, Shape, write_model, write_pairs
from prefmill.bench.train_rungs import RUNGS
from prefmill.bench.train_side import train_once
from prefmill.train.collate import PairCollator
from prefmill.train.data import RunImages, load_pairs
from prefmill.train.preference import scorer
from prefmill.train.preference.layout import split
from transformers import AutoProcessor, CLIPVisionModel


def timing(cpu, growth, losses):
    return {"cpu": cpu, "wall": 2 * cpu, "steps": cpu / 2, "growth": growth, "losses": losses}


def test_claims_are_medians_over_rounds():
    raw = {
        "trl": [timing(4.0, 200, [0.7, 0.5]), timing(9.0, 100, [0.0, 0.0]), timing(6.0, 300, [0.0, 0.0])],
        "shared": [timing(2.0, 100, [0.7, 0.25]), timing(1.0, 90, [0.0, 0.0]), timing(4.0, 60, [0.0, 0.0])],
    }
    claims = train.claims_of(raw, pairs=12, predicted={"trl": 1.0, "shared": 1.5})
    assert (claims["pairs_per_s_vs_trl"], claims["pairs_per_s_vs_trl_wall"]) == (2.0, 2.0)
    assert claims["peak_memory_vs_trl"] == 0.5
    assert claims["loss_max_difference"] == 0.25
    assert (claims["trl_pairs_per_s"], claims["shared_pairs_per_s"]) == (2.0, 6.0)
    assert claims["ladder"]["shared"] == {"pairs_per_s_vs_trl": 2.0, "predicted": 1.5, "peak_memory_vs_trl": 0.5}


def test_inputs_have_the_lengths_they_are_named_by(tmp_path):
    """576 image tokens and 60 of text before answers of about 150, in a model whose head has 2,000 columns."""
    shape = Shape(hidden=64, layers=1)
    model, run = write_model(tmp_path / "model", shape), write_pairs(tmp_path / "run", shape)
    collator, sizes = PairCollator(AutoProcessor.from_pretrained(model)), RunImages(run).sizes()
    pairs = [split(collator, pair, sizes[pair.image_id], None) for pair in load_pairs(run)]
    assert len(pairs) == 8
    assert all(576 + 60 < len(pair.prefix) < 576 + 60 + 40 for pair in pairs)
    lengths = [len(answer) for pair in pairs for answer in (pair.chosen, pair.rejected)]
    assert 110 < sum(lengths) / len(lengths) < 220
    assert json.loads((model / "config.json").read_text())["text_config"]["vocab_size"] == 2000


def test_every_rung_trains_to_the_same_losses(tmp_path, monkeypatch):
    """In this process, where the benchmark starts one for each side; so nothing is to be warmed up first."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)

    @contextlib.contextmanager
    def here(rung, folder, setting):
        own = {key: value for key, value in setting.items() if key != "threads"}
        nothing = timing(0.0, 0, [])
        yield lambda output: nothing if output == "warm" else train_once(rung, folder, f"{rung}-{output}", own)

    monkeypatch.setattr(train, "side_process", here)
    setting = {"device": "cpu", "lora_rank": 8, "lora_alpha": 16, "batch_size": 2, "accumulation": 1, "threads": 1}
    claims = train.run(TINY, setting, rungs=RUNGS, rounds=1, to=tmp_path / "result.json")
    assert tuple(claims["ladder"]) == RUNGS
    assert claims["ladder"]["trl"]["pairs_per_s_vs_trl"] == claims["ladder"]["trl"]["predicted"] == 1
    gains = [claims["ladder"][rung]["predicted"] for rung in RUNGS]
    assert gains == sorted(gains)
    assert gains[-1] > 1.3
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["claims"] == claims
    assert record["setting"]["rounds"] == 1
    theirs = record["raw"]["trl"][0]["losses"]
    assert len(theirs) == 4
    assert theirs[0] != pytest.approx(theirs[-1], abs=0.05)
    for rung in RUNGS[1:]:
        assert record["raw"][rung][0]["losses"] == pytest.approx(theirs, abs=1e-4), rung


def test_the_middle_rungs_do_the_work_they_are_named_by(tmp_path, monkeypatch):
    """Counted in the images that the vision tower reads and the rows that the head reads, in two steps of two pairs."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)
    heads, images = [], []
    statistics, tower = scorer.token_statistics, CLIPVisionModel.forward

    def counted_head(hidden, *rest):
        heads.append(len(hidden))
        return statistics(hidden, *rest)

    def counted_tower(self, pixel_values, *rest, **more):
        images.append(len(pixel_values))
        return tower(self, pixel_values, *rest, **more)

    monkeypatch.setattr(scorer, "token_statistics", counted_head)
    monkeypatch.setattr(CLIPVisionModel, "forward", counted_tower)
    write_model(tmp_path / "model", TINY)
    write_pairs(tmp_path / "run", TINY)
    setting = {"device": "cpu", "lora_rank": 8, "lora_alpha": 16, "batch_size": 2, "accumulation": 1, "epochs": 1}
    rows, seen = {}, {}
    for rung in RUNGS[1:]:
        heads.clear()
        images.clear()
        train_once(rung, tmp_path, rung, setting)
        rows[rung], seen[rung] = sorted(heads), list(images)
    # two steps, and before each or before both what the reference says
    assert {rung: len(counts) for rung, counts in rows.items()} == dict.fromkeys(RUNGS[1:], 4)
    assert rows["answers"] == rows["shared"]
    assert rows["prefix"] == rows["vision"]
    assert rows["vision"][0] > 2 * rows["answers"][-1]  # prompts are longer than answers
    assert rows["reference"] == sorted(rows["answers"][:2] + rows["vision"][2:])
    # all images once into the cache, and those of two ordinary rows for the proof
    assert seen == {
        "prefix": [2, 2, 2, 2], "vision": [4], "reference": [4, 2], "answers": [4, 2], "shared": [4, 2],
    }  # fmt: skip
