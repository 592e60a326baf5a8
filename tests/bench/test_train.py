"""The training benchmark: its arithmetic, its inputs, and a whole tiny run of both sides."""

import contextlib
import json
from functools import partial

import huggingface_hub.constants
import pytest
from prefmill.bench import train
from prefmill.bench.train_inputs import TINY, Shape, write_model, write_pairs
from prefmill.train.collate import PairCollator
from prefmill.train.data import RunImages, load_pairs
from prefmill.train.preference.layout import split
from transformers import AutoProcessor


def timing(cpu, growth, losses):
    return {"cpu": cpu, "wall": 2 * cpu, "steps": cpu / 2, "growth": growth, "losses": losses}


def test_claims_are_medians_over_rounds():
    raw = {
        "trl": [timing(4.0, 200, [0.7, 0.5]), timing(9.0, 100, [0.0, 0.0]), timing(6.0, 300, [0.0, 0.0])],
        "shared": [timing(2.0, 100, [0.7, 0.25]), timing(1.0, 90, [0.0, 0.0]), timing(4.0, 60, [0.0, 0.0])],
    }
    claims = train.claims_of(raw, pairs=12)
    assert (claims["pairs_per_s_vs_trl"], claims["pairs_per_s_vs_trl_wall"]) == (2.0, 2.0)
    assert claims["peak_memory_vs_trl"] == 0.5
    assert claims["loss_max_difference"] == 0.25
    assert (claims["trl_pairs_per_cpu_s"], claims["shared_pairs_per_cpu_s"]) == (2.0, 6.0)


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


def test_both_sides_train_to_the_same_losses(tmp_path, monkeypatch):
    """In this process, where the benchmark starts one for each side."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)

    @contextlib.contextmanager
    def here(name, folder, setting):
        own = {key: value for key, value in setting.items() if key != "threads"}
        changes = {"max_steps": 1, "epochs": 1}
        yield lambda output: train._train(name, folder, f"{name}-{output}", own | (changes if output == "warm" else {}))

    monkeypatch.setattr(train, "_side", partial(here))
    claims = train.run(TINY, rounds=1, accumulation=1, to=tmp_path / "result.json")
    assert claims["loss_max_difference"] < 1e-4
    assert claims["pairs_per_s_vs_trl"] > 0
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["claims"] == claims
    assert record["setting"]["rounds"] == 1
    losses = record["raw"]["trl"][0]["losses"]
    assert len(losses) == 4
    assert losses[0] != pytest.approx(losses[-1], abs=0.05)
