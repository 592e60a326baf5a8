"""Every family: the shared row against two unpadded forwards of the model alone, in float64; and TRL's curve.

The model alone is given what its own processor makes of an image and one answer; the shared row is made by the
trainer's own collator, so tokens, tiles, positions and features all have to be right. Norms compute in float32 in any
model, which is why gradients agree to 1e-7 and not to 1e-13.
"""

import time
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from peft import get_peft_model
from prefmill.engine.processors import load_processor
from prefmill.engine.tiny.vision_language_models import FAMILIES, build_vision_language_model
from prefmill.train import trl_backend
from prefmill.train.adapter import lora_config, lora_targets
from prefmill.train.collate import PairCollator
from prefmill.train.data import RunImages, conversation, load_pairs, preference_dataset
from prefmill.train.job import TrainingJob
from prefmill.train.preference.batches import PairBatches
from prefmill.train.preference.cache import VisionCache
from prefmill.train.preference.positions import rotary_positions
from prefmill.train.preference.scorer import as_scorer, feature_width, load_scorer
from prefmill.train.preference.trainer import build_trainer
from prefmill.train.settings import DPOTrainingConfig
from torch.nn.functional import scaled_dot_product_attention

from ..conftest import write_run

SHAPES = [(84, 84), (120, 56), (56, 98)]
"""Widths and heights: some families cut these into tiles, each in another number."""


@dataclass
class Family:
    """A policy in float64 whose adapter acts, its job, and the log-probabilities of its three pairs one by one."""

    policy: Any
    job: TrainingJob
    logps: torch.Tensor
    weights: torch.Tensor
    gradients: dict[str, torch.Tensor]

    @property
    def pairs(self):
        return self.job.pairs[:3]

    def batch(self, way, cache=None, positions=True):
        """The collator's batch in the model's precision; with the features from a cache where one is given."""
        model: Any = as_scorer(self.policy.get_base_model(), way)
        batches = PairBatches(self.job, way, rotary_positions(model) if positions else None)
        if cache:
            images = [pair.image_id for pair in self.pairs]
            features_of = model.image_features(**double(batches.image_inputs(images)))
            for image, features in zip(images, features_of, strict=True):
                assert features.shape == (batches.image_tokens(image), feature_width(model))
                cache.put(image, features)
            batches.vision = cache
        return double(batches(self.pairs)["model"])

    def differs(self, batch):
        """The largest difference of a token's log-probability."""
        with torch.no_grad():
            return (self.policy(**batch).logp - self.logps).abs().max().item()


def double(inputs):
    return {
        name: value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in inputs.items()
    }


def gradients(policy, logps, weights):
    policy.zero_grad()
    (logps * weights).sum().backward()
    return {name: weight.grad.clone() for name, weight in policy.named_parameters() if weight.requires_grad}


def separate_logps(policy, job, pairs, dtype=torch.float64):
    """Every answer in a sequence of its own, from the processor itself: logits of the vocabulary, log-softmax."""
    policy.get_base_model().get_decoder().set_attn_implementation("sdpa")
    found, collator = [], job.collator
    for side in ("chosen", "rejected"):
        for pair in pairs:
            prompt = conversation(pair.instruction, job.config.system_prompt)
            tokenized = collator.tokenize(prompt, [{"role": "assistant", "content": getattr(pair, side)}])
            images = [[job.images.load(pair.image_id)]]
            inputs = collator.processor(
                images=images, text=[tokenized.text], return_tensors="pt", add_special_tokens=False
            )
            logits = policy(**{k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}).logits[0]
            answer = inputs["input_ids"][0, tokenized.prompt_length - len(tokenized.ids) :]
            before = logits[-len(answer) - 1 : -1]
            found.append(before.log_softmax(-1).gather(1, answer[:, None])[:, 0])
    return torch.cat(found)


@pytest.fixture(scope="module")
def family_run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "run", shapes=SHAPES)


@pytest.fixture(scope="module")
def make_family_job(family_run, tmp_path_factory):
    folders = tmp_path_factory.mktemp("families")

    def make(name, **changes):
        folder = build_vision_language_model(folders / name, name)
        values = {
            "model": str(folder), "lora_rank": 4, "lora_alpha": 8, "lora_dropout": 0, "learning_rate": 1e-3,
            "warmup_ratio": 0, "device": "cpu", "zero_stage": 0, "system_prompt": "Be brief.",
        }  # fmt: skip
        config = DPOTrainingConfig.model_validate({**values, **changes})
        collator, images = PairCollator(load_processor(folder)), RunImages(family_run)
        output = tmp_path_factory.mktemp("output")
        return TrainingJob(
            config, folder, collator, load_pairs(family_run), images, output, None, "cpu", "float32", time.monotonic()
        )

    return make


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, make_family_job):
    job = make_family_job(request.param)
    model = load_scorer(job.model_folder, torch.float32).double()
    policy = get_peft_model(model, lora_config(job.config, lora_targets(model))).eval()
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.02 * torch.randn(weight.shape, generator=stream, dtype=weight.dtype))
    logps = separate_logps(policy, job, job.pairs[:3])
    weights = torch.randn(len(logps), generator=stream, dtype=torch.float64)
    return Family(policy, job, logps.detach(), weights, gradients(policy, logps, weights))


def interpreted_varlen(query, key, value, query_starts, key_starts, longest_query, longest_key, **settings):
    """What the documentation of torch's operation says, sequence by sequence, aligned at the end as flash attention."""
    assert settings["window_size"] == (-1, 0)
    assert query_starts.dtype == key_starts.dtype == torch.int32
    assert query_starts.diff().max() == longest_query
    assert key_starts.diff().max() == longest_key
    out = []
    for queries, keys in zip(query_starts.tolist()[:-1], key_starts.tolist()[:-1], strict=True):
        number = len(out)
        q = query[queries : query_starts[number + 1]].transpose(0, 1)[None]
        k, v = (part[keys : key_starts[number + 1]].transpose(0, 1)[None] for part in (key, value))
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
        enable_gqa = settings["enable_gqa"]
        found = scaled_dot_product_attention(q, k, v, mask, scale=settings["scale"], enable_gqa=enable_gqa)
        out.append(found[0].transpose(0, 1))
    return torch.cat(out)


@pytest.mark.parametrize("way", ["pairs", "varlen", "mask"])
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "pixels"])
def test_equals_separate_forwards(family, way, cached, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", interpreted_varlen)
    batch = family.batch(way, VisionCache(tmp_path) if cached else None)
    assert ("pixel_values" in batch) == (not cached)
    logps = family.policy(**batch).logp
    assert family.logps.abs().min() > 1e-3
    assert (logps - family.logps).abs().max() < 1e-12
    for name, gradient in gradients(family.policy, logps, family.weights).items():
        expected = family.gradients[name]
        assert (gradient - expected).abs().max() < 1e-6 * expected.abs().max(), name


def test_wrong_rows_are_seen(family):
    """What the comparison above would miss if it could not tell: positions that go on, another image."""
    batch = family.batch("pairs")
    assert family.differs(batch) < 1e-12
    prefix, chosen, rejected = batch["pair_spans"][0][0]
    moved = batch["position_ids"].clone()
    moved[..., prefix + chosen : prefix + chosen + rejected] += chosen
    assert family.differs({**batch, "position_ids": moved}) > 1e-3
    assert family.differs({**batch, "pixel_values": -batch["pixel_values"]}) > 1e-3


def test_rows_and_columns_matter_where_the_family_has_them(family):
    counted = family.batch("pairs", positions=False)
    has_rows = rotary_positions(family.policy.get_base_model()) is not None
    assert has_rows == family.policy.config.model_type.startswith("qwen")
    assert (family.differs(counted) > 1e-3) == has_rows


def test_float32_is_as_good_as_padded_rows(family):
    """The rows that TRL reads, padded, in float32: the shared row is at most twice as far from the truth."""
    job, model = family.job, family.policy
    batch = family.batch("pairs")
    batch = {k: v.float() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for k, v in batch.items()}
    dataset = preference_dataset(family.pairs, job.images, job.config.system_prompt)
    rows = job.collator([dataset[number] for number in range(3)])
    counted = rows.pop("completion_mask")[:, 1:].bool()
    model.float()
    try:
        with torch.no_grad():
            shared = model(**batch).logp
            model.get_base_model().get_decoder().set_attn_implementation("sdpa")
            logits = model(**rows).logits[:, :-1].log_softmax(-1)
            padded = logits.gather(2, rows["input_ids"][:, 1:, None])[..., 0][counted]
    finally:
        for name, weight in load_scorer(job.model_folder, torch.float32).double().named_parameters():
            model.get_base_model().get_parameter(named(model, name)).data = weight.data
        model.double()
    error = (padded - family.logps).norm()
    assert 0 < error < 1e-4
    assert (shared - family.logps).norm() < 2 * error


def named(model, name):
    """A parameter's name inside of the adapter."""
    names = {known.replace(".base_layer", ""): known for known, _ in model.get_base_model().named_parameters()}
    return names[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_curve_is_that_of_trl(make_family_job, name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    settings = {"max_steps": 3, "batch_size": 3, "accumulation": 1, "schedule": "constant"}
    curves = []
    for build in (build_trainer, trl_backend.build_trainer):
        trainer = build(make_family_job(name, **settings))
        trainer.train()
        curves.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
    ours, theirs = curves
    assert theirs[0] - theirs[-1] > 0.01, "the losses must move for their equality to mean something"
    assert ours == pytest.approx(theirs, abs=1e-5)
