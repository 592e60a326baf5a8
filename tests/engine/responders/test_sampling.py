import pytest
import torch
from prefmill.engine.responders.sampling import TokenSampling
from prefmill.engine.settings import Sampling
from pydantic import ValidationError


def streams(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draws(logits: torch.Tensor, sampling: Sampling, count: int) -> torch.Tensor:
    """How often each token is drawn over `count` rows of the same logits."""
    drawn = TokenSampling(sampling)(logits.expand(count, -1).contiguous(), streams(range(count)))
    return torch.bincount(drawn, minlength=len(logits)) / count


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
    sample, batch, single = TokenSampling(sampling), streams([7, 8, 9]), streams([8])
    together = torch.stack([sample(logits, batch) for _ in range(20)])
    alone = torch.stack([sample(logits[1:2], single) for _ in range(20)])
    assert torch.equal(together[:, 1], alone[:, 0])
    assert not torch.equal(together[:, 0], together[:, 1])


def test_without_temperature_the_most_likely_token_is_taken():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert TokenSampling(Sampling())(logits, streams([1, 2])).tolist() == [1, 0]


@pytest.mark.parametrize(
    "settings", [{"max_new_tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"top_p": 1.5}, {"beams": 4}]
)
def test_settings_refuse_nonsense(settings):
    with pytest.raises(ValidationError):
        Sampling(**settings)
