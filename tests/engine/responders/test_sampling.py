import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.responders.sampling import GumbelSampling, fit_to_context, generate_tokens, keep_stop_tokens_only
from prefmill.engine.settings import Sampling
from pydantic import ValidationError
from transformers import LlamaConfig, LlamaForCausalLM

NO_TOKENS = torch.LongTensor([[0]])


@pytest.fixture
def tiny_model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def draws(logits: torch.Tensor, sampling: Sampling, count: int) -> torch.Tensor:
    """How often each token is drawn over `count` rows of the same logits."""
    noisy = GumbelSampling(sampling, range(count))(NO_TOKENS, logits.expand(count, -1).contiguous())
    return torch.bincount(noisy.argmax(-1), minlength=len(logits)) / count


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_tempered_distribution(temperature):
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0])
    expected = torch.softmax(logits / temperature, 0)
    count = 20_000
    deviation = (expected * (1 - expected) / count).sqrt()
    found = draws(logits, Sampling(temperature=temperature), count)
    assert ((found - expected).abs() < 4 * deviation + 1e-6).all()


def test_top_p_keeps_the_smallest_sufficient_set():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    found = draws(logits, Sampling(temperature=1.0, top_p=0.7), 5_000)
    assert found[2:].sum() == 0
    assert abs(found[0].item() - 0.5 / 0.8) < 0.03


def test_a_row_draws_the_same_beside_other_neighbours():
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(temperature=1.0)
    batch, single = GumbelSampling(sampling, [7, 8, 9]), GumbelSampling(sampling, [8])
    for _ in range(5):
        together = batch(NO_TOKENS, logits)
        assert torch.equal(together[1:2], single(NO_TOKENS, logits[1:2]))
        assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize(
    "settings", [{"max_new_tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"top_p": 1.5}, {"beams": 4}]
)
def test_settings_refuse_nonsense(settings):
    with pytest.raises(ValidationError):
        Sampling(**settings)


def test_nan_logits_are_an_error(tiny_model):
    with torch.no_grad():
        tiny_model.lm_head.weight[3] = float("nan")
    keep_stop_tokens_only(tiny_model)
    inputs = {"input_ids": torch.tensor([[1, 5]]), "attention_mask": torch.ones(1, 2, dtype=torch.long)}
    with pytest.raises(PrefmillError, match=r"NaN logits in torch\.float32"):
        generate_tokens(tiny_model, inputs, [0], Sampling(max_new_tokens=3), 0)


def test_only_the_stop_tokens_of_a_checkpoint_count(tiny_model):
    inputs = {"input_ids": torch.tensor([[1, 5, 9]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    keep_stop_tokens_only(tiny_model)
    plain = generate_tokens(tiny_model, inputs, [0], Sampling(max_new_tokens=12), 0)
    tiny_model.generation_config.repetition_penalty = 5.0
    tiny_model.generation_config.temperature = 0.1
    tiny_model.generation_config.do_sample = True
    keep_stop_tokens_only(tiny_model)
    assert torch.equal(generate_tokens(tiny_model, inputs, [0], Sampling(max_new_tokens=12), 0), plain)


def test_new_tokens_never_leave_the_context(tiny_model):
    inputs = {"input_ids": torch.ones(2, 30, dtype=torch.long)}
    assert fit_to_context(tiny_model, inputs, Sampling(max_new_tokens=2)).max_new_tokens == 2
    assert fit_to_context(tiny_model, inputs, Sampling(max_new_tokens=500)).max_new_tokens == 2
    with pytest.raises(PrefmillError, match="32 tokens, the context of LlamaForCausalLM is 32"):
        fit_to_context(tiny_model, {"input_ids": torch.ones(1, 32)}, Sampling())
