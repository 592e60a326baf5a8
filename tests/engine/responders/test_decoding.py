"""The decoder against the library's `generate` on one prompt at a time, with more prompts than rows."""

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.responders import decoding
from prefmill.engine.responders.decoding import Decoder, OpenAnswer
from prefmill.engine.responders.local import collate
from prefmill.engine.responders.sampling import keep_stop_tokens_only
from prefmill.engine.settings import Sampling
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

LENGTHS = [3, 9, 2, 7, 7, 1, 12, 5, 4, 8]
STOPS = [10, 15]
"""Two tokens that the model says often."""


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(40.0)  # far from ties
    model.generation_config.eos_token_id = STOPS
    keep_stop_tokens_only(model)
    return model


def prompts(most_tokens=20):
    made = []
    for seed, length in enumerate(LENGTHS):
        tokens = torch.randint(3, 40, (1, length), generator=torch.Generator().manual_seed(seed))
        made.append(OpenAnswer({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, seed, most_tokens))
    return made


def decoder(model):
    return Decoder(model, lambda group: collate([prompt.inputs for prompt in group]))


def answered(model, sampling, asked=None):
    asked = asked or prompts()
    decoder(model).run(asked, sampling)
    return [(prompt.tokens, prompt.ended) for prompt in asked]


def by_the_library(model, prompt):
    settings = GenerationConfig(max_new_tokens=prompt.most_tokens, do_sample=False, pad_token_id=0)
    tokens = model.generate(**prompt.inputs, generation_config=settings)[0, prompt.length :].tolist()
    return (tokens[:-1], True) if tokens[-1] in STOPS else (tokens, False)


@pytest.mark.parametrize(("rows", "prefill"), [(64, 8192), (3, 8192), (4, 10), (1, 1)])
def test_greedy_tokens_are_those_of_the_library(model, monkeypatch, rows, prefill):
    monkeypatch.setattr(decoding, "MOST_ROWS", rows)
    monkeypatch.setattr(decoding, "PREFILL_TOKENS", prefill)
    expected = [by_the_library(model, prompt) for prompt in prompts()]
    assert answered(model, Sampling()) == expected
    assert {ended for _, ended in expected} == {True, False}
    assert len({len(tokens) for tokens, _ in expected}) > 2


def test_draws_do_not_depend_on_neighbours_or_order(model, monkeypatch):
    sampling = Sampling(temperature=1.0, top_p=0.9)
    together = answered(model, sampling)
    assert answered(model, sampling, prompts()[::-1])[::-1] == together
    monkeypatch.setattr(decoding, "MOST_ROWS", 3)
    assert answered(model, sampling) == together
    assert [answered(model, sampling, [prompt])[0] for prompt in prompts()] == together


def test_rows_that_have_ended_leave_and_waiting_ones_come(model, monkeypatch):
    monkeypatch.setattr(decoding, "MOST_ROWS", 4)
    widths = []
    model.register_forward_pre_hook(lambda *given: widths.append(tuple(given[2]["input_ids"].shape)), with_kwargs=True)
    asked = prompts()
    decoder(model).run(asked, Sampling())
    steps = [rows for rows, length in widths if length == 1]
    assert max(steps) <= 4
    # a prompt of one token is read in a call that looks like a step; the first token of an answer takes no step
    assert sum(steps) <= sum(len(prompt.tokens) + prompt.ended - 1 for prompt in asked) + 4
    assert all(prompt.finished > 0 for prompt in asked)


def test_a_prompts_own_limit(model):
    asked = prompts()
    for number, prompt in enumerate(asked):
        prompt.most_tokens = 1 + number % 3
    found = answered(model, Sampling(), asked)
    assert found == [by_the_library(model, prompt) for prompt in asked]


def test_the_memory_of_a_device_bounds_what_runs_together(model):
    expected = [by_the_library(model, prompt) for prompt in prompts()]
    bounded = decoder(model)
    bounded._budget = 70  # the longest prompt with its answer takes 32
    sizes = []
    model.register_forward_pre_hook(lambda *given: sizes.append(given[2]["attention_mask"].shape), with_kwargs=True)
    asked = prompts()
    bounded.run(asked, Sampling())
    assert max(rows * width for rows, width in sizes) <= 70
    assert {rows for rows, _ in sizes} >= {1, 2}
    assert [(prompt.tokens, prompt.ended) for prompt in asked] == expected


def test_nan_logits_are_an_error(model):
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    with pytest.raises(PrefmillError, match=r"NaN logits in torch\.float32"):
        answered(model, Sampling())


def test_only_the_stop_tokens_of_a_checkpoint_count(model):
    plain = answered(model, Sampling())
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.temperature = 0.1
    model.generation_config.do_sample = True
    keep_stop_tokens_only(model)
    assert answered(model, Sampling()) == plain
    assert [by_the_library(model, prompt) for prompt in prompts()] == plain


def test_texts_are_padded_in_front_and_images_behind():
    rows = [
        {"input_ids": torch.tensor([[1, 5]]), "attention_mask": torch.tensor([[1, 1]]), "pixels": torch.ones(1, 1, 2)},
        {"input_ids": torch.tensor([[1]]), "attention_mask": torch.tensor([[1]]), "pixels": torch.ones(2, 2, 1)},
    ]
    batch = collate(rows, padding=9)
    assert batch["input_ids"].tolist() == [[1, 5], [9, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1], [0, 1]]
    assert batch["pixels"].tolist() == [[[1, 1], [0, 0]], [[1, 0], [1, 0]], [[1, 0], [1, 0]]]
