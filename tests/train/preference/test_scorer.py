"""Log-probabilities and gradients of the shared row against two unpadded forwards of the model alone, in float64.

Transformers' RMS norm computes in float32 in any model, which is why gradients agree to 1e-7 and not to 1e-13.
"""

import json
from typing import Any

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.train.preference.layout import lay_out
from prefmill.train.preference.scorer import as_scorer, model_inputs, scorer_class
from transformers import LlavaForConditionalGeneration


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(3, 3, 56, 56, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.fixture(scope="module")
def weights():
    return torch.randn(26, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def gradients(policy, logps, weights):
    policy.zero_grad()
    (logps * weights).sum().backward()
    return {name: weight.grad.clone() for name, weight in policy.named_parameters() if weight.requires_grad}


@pytest.fixture(scope="module")
def separate(policy: Any, tokens, pixels, weights):
    """Every answer in a sequence of its own, logits of the whole vocabulary, log-softmax: (logps, gradients)."""
    model = policy.get_base_model()
    model.get_decoder().set_attn_implementation("sdpa")
    found = []
    for side in ("chosen", "rejected"):
        for number, pair in enumerate(tokens):
            answer, skipped = getattr(pair, side), getattr(pair, f"{side}_skipped")
            ids = torch.tensor([[*pair.prefix, *answer]])
            logits = policy(input_ids=ids, pixel_values=pixels[number : number + 1]).logits[0, :-1]
            picked = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
            found.append(picked[len(pair.prefix) + skipped - 1 :])
    logps = torch.cat(found)
    return logps.detach(), gradients(policy, logps, weights)


@pytest.mark.parametrize("way", ["pairs", "mask"])
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "row-each"])
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "pixels"])
def test_equals_separate_forwards(policy, tokens, pixels, weights, separate, way, packed, cached):
    scorer: Any = as_scorer(policy.get_base_model(), way)
    inputs = model_inputs(lay_out(tokens, 0, packed=packed), way)
    images = {"image_features": scorer.image_features(pixel_values=pixels)} if cached else {"pixel_values": pixels}
    logps = policy(**inputs, **images).logp
    assert (logps - separate[0]).abs().max() < 1e-12
    assert separate[0].abs().min() > 1e-3
    for name, gradient in gradients(policy, logps, weights).items():
        assert (gradient - separate[1][name]).abs().max() < 1e-6 * separate[1][name].abs().max(), name


def test_pairs_do_not_see_each_other(policy, tokens, pixels):
    """Other tokens in the second pair change no bit of the first one's log-probabilities."""
    as_scorer(policy.get_base_model(), "pairs")
    other = [tokens[0], tokens[2], tokens[1]]
    with torch.no_grad():
        one = policy(**model_inputs(lay_out(tokens[:2], 0, packed=True), "pairs"), pixel_values=pixels[:2]).logp
        two = policy(**model_inputs(lay_out(other[:2], 0, packed=True), "pairs"), pixel_values=pixels[::2]).logp
    assert (one[:5] - two[:5]).abs().max() < 1e-12


def test_gradient_checkpointing_changes_nothing(policy, tokens, pixels, weights, separate):
    as_scorer(policy.get_base_model(), "pairs")
    policy.train()
    policy.gradient_checkpointing_enable()
    policy.enable_input_require_grads()
    try:
        inputs = model_inputs(lay_out(tokens, 0, packed=True), "pairs")
        found = gradients(policy, policy(**inputs, pixel_values=pixels).logp, weights)
    finally:
        policy.gradient_checkpointing_disable()
        policy.eval()
    for name, gradient in found.items():
        assert (gradient - separate[1][name]).abs().max() < 1e-6 * separate[1][name].abs().max(), name


def test_is_the_models_own_class_to_everyone_else(policy, model_folder, tokens, pixels):
    """Same parameter names, same forward without answer rows, and the name that peft writes into an adapter."""
    plain = LlavaForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float32)
    scorer = policy.get_base_model()
    assert isinstance(scorer, LlavaForConditionalGeneration)
    assert type(scorer).__name__ == "LlavaForConditionalGeneration"
    assert type(scorer).__module__ == LlavaForConditionalGeneration.__module__
    loaded = scorer_class(model_folder).from_pretrained(model_folder, dtype=torch.float32)
    assert loaded.state_dict().keys() == plain.state_dict().keys()
    inputs = {"input_ids": torch.tensor([tokens[0].prefix]), "pixel_values": pixels[:1].float()}
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, plain(**inputs).logits)


def test_an_unknown_family_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mllama"}))
    with pytest.raises(PrefmillError, match="does not know mllama models") as caught:
        scorer_class(tmp_path)
    assert caught.value.fix == "set backend=trl"
