"""A base in four bits: which layers, whose reference, the same training by both backends, and weights that must fit."""

import json
import math
import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import PeftModel
from prefmill.base.errors import PrefmillError
from prefmill.train import trl_backend
from prefmill.train.adapter_training import train
from prefmill.train.base_model import load_base
from prefmill.train.preference.trainer import build_trainer
from prefmill.train.zero2 import ENGINE_CLASS
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration

bitsandbytes = pytest.importorskip("bitsandbytes", reason="needs the extra `quantized`: pip install bitsandbytes")

QUANTISED = {"base_bits": 4, "batch_size": 3, "accumulation": 1, "schedule": "constant", "max_steps": 4}


def curve(trainer):
    keys = ("loss", "grad_norm", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected")
    lines = [line for line in trainer.state.log_history if "loss" in line]
    return torch.tensor([[line[key] for key in keys] for line in lines], dtype=torch.float64)


def in_four_bits(model):
    return [name for name, module in model.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]


def test_only_the_language_model_is_quantised(make_job):
    model: Any = load_base(AutoModelForImageTextToText, make_job(**QUANTISED))
    layers = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    assert in_four_bits(model) == [name for name in layers if ".language_model." in name]
    assert len(in_four_bits(model)) == 2 * 7
    assert {weight.dtype for weight in model.parameters()} == {torch.float32, torch.uint8}
    state = model.get_submodule(in_four_bits(model)[0]).weight.quant_state
    assert (state.quant_type, state.nested) == ("nf4", True)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_both_backends_train_the_same(make_job, precision):
    """TRL rounds a fresh adapter to bfloat16 where the base has four bits: both start from the rounded one."""
    ours = build_trainer(make_job("ours", precision, **QUANTISED))
    for weight in ours.adapted_model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.bfloat16().float()
    theirs = trl_backend.build_trainer(make_job("theirs", precision, **QUANTISED))
    for trainer in (ours, theirs):
        trainer.train()
        assert len(in_four_bits(trainer.adapted_model)) == 14
        trained = [weight for weight in trainer.adapted_model.parameters() if weight.requires_grad]
        assert {weight.dtype for weight in trained} == {torch.float32}
    found, expected = curve(ours), curve(theirs)
    allowed = 1e-5 if precision == "float32" else 2e-2
    assert expected[0, 0] - expected[-1, 0] > 0.05, "the losses must move for their equality to mean something"
    assert (found[:, 0] - expected[:, 0]).abs().max() < allowed
    assert (found - expected).abs().div(expected.abs() + 1).max() < 2 * allowed


def test_reference_is_the_quantised_model(make_job, model_folder, tmp_path):
    """Its numbers are those of a plain model whose weights are what four bits keep of them, and of no other."""
    changes = {"cache": str(tmp_path / "cache"), **QUANTISED, "max_steps": 1}
    trainer = build_trainer(make_job("four", **changes))
    trainer.train()
    other = build_trainer(make_job("whole", **{**changes, "base_bits": None}))
    other.train()
    keys = [json.loads(path.read_text()) for path in (tmp_path / "cache").rglob("key.json")]
    assert sorted((key["kind"], key.get("base")) for key in keys if key.get("base")) == [
        ("reference", "nf4, double quantisation"),
        ("vision", "nf4, double quantisation"),
    ]
    assert len(keys) == 4

    pair = trainer.job.pairs[0]
    plain: Any = LlavaForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float32).eval()
    quantised: Any = trainer.adapted_model.get_base_model()
    with torch.no_grad():
        for name in in_four_bits(quantised):
            weight = quantised.get_submodule(name).weight
            whole = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
            plain.get_submodule(name.replace(".base_layer", "")).weight.copy_(whole)
    rows = trainer.job.collator(
        [
            {
                "images": [trainer.job.images.load(pair.image_id)],
                "prompt": [{"role": "user", "content": pair.instruction}],
                "chosen": [{"role": "assistant", "content": pair.chosen}],
                "rejected": [{"role": "assistant", "content": pair.rejected}],
            }
        ]
    )
    counted = rows.pop("completion_mask")[:, 1:]
    with torch.no_grad():
        logps = plain(**rows).logits[:, :-1].log_softmax(-1)
    sums = (logps.gather(2, rows["input_ids"][:, 1:, None])[..., 0] * counted).sum(1)
    one, two = trainer.batches.reference, other.batches.reference
    assert one
    assert two
    cached, unquantised = ([cache.get(key) for key in trainer.batches.keys(pair)] for cache in (one, two))
    assert cached == pytest.approx(sums.tolist(), abs=1e-4)
    assert (sums - torch.tensor(unquantised)).abs().max() > 1e-2


@pytest.mark.parametrize("damage", ["missing", "wrong shape", "unexpected"])
def test_weights_that_do_not_fit_are_refused(make_job, tmp_path, damage):
    """A quantised weight has no shape of its own: a wrong one would load without a word."""
    job = make_job(**QUANTISED)
    folder = shutil.copytree(job.model_folder, tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "language_model" in name and "q_proj" in name)
    if damage == "unexpected":
        weights[f"{name}er"] = weights[name].clone()
    elif damage == "missing":
        weights.pop(name)
    else:
        weights[name] = weights[name][:-2].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(PrefmillError, match=f"do not fit the model: {damage}: .*q_proj"):
        load_base(AutoModelForImageTextToText, replace(job, model_folder=folder))


def test_training_under_zero2_leaves_an_ordinary_adapter(run_folder, settings, model_folder, tmp_path):
    config = settings(backend="shared", base_bits=4, precision="bfloat16", gradient_checkpointing=True)
    manifest = train(run_folder, tmp_path, config)
    assert (manifest.backend.engine, manifest.config.base_bits) == (ENGINE_CLASS, 4)
    assert manifest.versions["bitsandbytes"] == bitsandbytes.__version__
    assert manifest.loss["first"] == pytest.approx(math.log(2), abs=1e-6)
    base = LlavaForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert sum("lora_B" in name for name, _ in adapted.named_parameters()) == 14
    assert not list((tmp_path / "adapter").glob("*4bit*"))
    assert "quantization" not in (tmp_path / "adapter" / "adapter_config.json").read_text()
