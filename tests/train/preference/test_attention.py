"""Attention over pairs against a masked softmax written out, and the ways of computing it wrong, which are refused."""

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.train.preference.attention import (
    best_way,
    pair_attention,
    require_pair_attention,
    use_pair_attention,
    varlen_index,
    varlen_pair_attention,
)
from prefmill.train.preference.layout import lay_out
from prefmill.train.preference.scorer import load_scorer, model_inputs
from torch._subclasses.fake_tensor import FakeTensorMode


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("groups", [4, 2])
def test_is_a_masked_softmax(tokens, packed, groups):
    """Outputs and gradients in float64, with as many and with half as many heads of keys."""
    layout = lay_out(tokens, 0, packed=packed)
    rows, length = layout.input_ids.shape
    stream = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(rows, heads, length, 8, generator=stream, dtype=torch.float64, requires_grad=True)
        for heads in (4, groups, groups)
    )
    found = pair_attention(torch.nn.Module(), query, key, value, None, scaling=0.3, pair_spans=layout.spans)[0]
    wide_key, wide_value = (part.repeat_interleave(4 // groups, 1) for part in (key, value))
    logits = 0.3 * query @ wide_key.mT
    expected = (logits.masked_fill(~layout.mask(), -torch.inf).softmax(-1) @ wide_value).transpose(1, 2)
    padding = torch.zeros(rows, length, dtype=torch.bool)
    for row, pairs in enumerate(layout.spans):
        padding[row, sum(map(sum, pairs)) :] = True
    expected = expected.masked_fill(padding[:, :, None, None], 0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    weights = torch.randn(found.shape, generator=stream, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), (query, key, value)),
        torch.autograd.grad((expected * weights).sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


@pytest.mark.parametrize("packed", [True, False])
def test_one_call_for_all_pairs_reaches_torch_in_its_form(tokens, packed):
    """Under fake tensors: torch checks shapes and its operation's gradients. Values: test_families.py."""
    layout = lay_out(tokens, 0, packed=packed)
    rows, length = layout.input_ids.shape
    index = varlen_index(layout.spans, length)
    with FakeTensorMode(allow_non_fake_inputs=True):
        query, key, value = (
            torch.empty(rows, heads, length, 16, dtype=torch.bfloat16, requires_grad=True) for heads in (4, 2, 2)
        )
        found = varlen_pair_attention(torch.nn.Module(), query, key, value, None, scaling=0.3, pair_index=index)[0]
        found.sum().backward()
    assert (found.shape, found.dtype) == ((rows, length, 4, 16), torch.bfloat16)
    assert [part.grad is not None for part in (query, key, value)] == [True] * 3


@pytest.mark.parametrize(
    ("device", "dtype", "changes", "way"),
    [
        ("cuda", torch.bfloat16, {}, "varlen"),
        ("cuda", torch.float16, {}, "varlen"),
        ("cuda", torch.float32, {}, "pairs"),
        ("cpu", torch.bfloat16, {}, "pairs"),
        ("cuda", torch.bfloat16, {"head_dim": 20}, "pairs"),
        ("cuda", torch.bfloat16, {"head_dim": 264}, "pairs"),
        ("cuda", torch.bfloat16, {"attention_dropout": 0.1}, "pairs"),
    ],
)
def test_way_follows_device_and_precision(model_folder, monkeypatch, device, dtype, changes, way):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    model = load_scorer(model_folder, torch.float32)
    for name, value in changes.items():
        monkeypatch.setattr(model.get_decoder().config, name, value)
    assert best_way(model, device, dtype) == way
    if way == "varlen":
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
        assert best_way(model, device, dtype) == "pairs"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"softcap": 30.0}, "softcap"),
        ({"s_aux": torch.zeros(4)}, "s_aux"),
        ({"sliding_window": 8}, "a window of 8 tokens on sequences of 33"),
    ],
    ids=["softcap", "sinks", "window"],
)
def test_what_it_does_not_compute_is_refused(tokens, extra, words):
    layout = lay_out(tokens, 0, packed=True)
    states = torch.zeros(1, 1, layout.input_ids.shape[1], 4)
    with pytest.raises(PrefmillError, match=words):
        pair_attention(torch.nn.Module(), states, states, states, None, pair_spans=layout.spans, **extra)
    wide = {"sliding_window": 33}
    pair_attention(torch.nn.Module(), states, states, states, None, pair_spans=layout.spans, **wide)


@pytest.mark.parametrize("way", ["pairs", "mask"])
def test_eager_attention_is_refused(model_folder, tokens, way):
    """It would add a boolean mask to the logits: wrong by units, without an error."""
    model = load_scorer(model_folder, torch.float32, way)
    layout = lay_out(tokens, 0, packed=True)
    inputs = {**model_inputs(layout, way), "pixel_values": torch.zeros(3, 3, 56, 56)}
    with torch.no_grad():
        model(**inputs)
        model.get_decoder().set_attn_implementation("eager")
        with pytest.raises(PrefmillError, match="its attention is 'eager'") as caught:
            model(**inputs)
    assert caught.value.fix == "train with backend=trl"


def test_a_model_without_attention_interface_takes_the_mask(model_folder, monkeypatch):
    model = load_scorer(model_folder, torch.float32)
    assert model.attention_way == "pairs"
    monkeypatch.setattr(type(model.get_decoder()), "_supports_attention_backend", False)
    assert use_pair_attention(model) == "mask"
    require_pair_attention(model, "mask")
    with pytest.raises(PrefmillError):
        require_pair_attention(model, "pairs")
