"""The quick BLIP forward against the library's: the same weights, the same states."""

import pytest
import torch
from prefmill.engine.networks.blip import encode_image, read_prompts
from prefmill.engine.scorers.image_reward import ImageRewardScorer
from prefmill.engine.settings import EngineSettings


@pytest.fixture(scope="module")
def model(engine_checkpoints):
    return ImageRewardScorer.from_pretrained(
        str(engine_checkpoints["image-reward"]), EngineSettings(device="cpu")
    ).model


@pytest.fixture
def batch():
    stream = torch.Generator().manual_seed(0)
    pixels = torch.randn(3, 3, 224, 224, generator=stream)
    tokens = torch.randint(5, 100, (3, 12), generator=stream)
    mask = (torch.arange(12) < torch.tensor([[12], [7], [3]])).long()
    return pixels, tokens * mask, mask


def test_image_states_equal_the_librarys(model, batch):
    with torch.no_grad():
        expected = model.vision_model(batch[0]).last_hidden_state
        torch.testing.assert_close(encode_image(model.vision_model, batch[0]), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seeing", [True, False])
def test_the_first_tokens_state_equals_the_librarys(model, batch, seeing):
    pixels, tokens, mask = batch
    with torch.no_grad():
        image = encode_image(model.vision_model, pixels) if seeing else None
        expected = model.text_model(tokens, attention_mask=mask, encoder_hidden_states=image, is_decoder=False)
        found = read_prompts(model.text_model, tokens, mask, image)
    torch.testing.assert_close(found, expected.last_hidden_state[:, 0], atol=1e-5, rtol=0)


def test_padding_changes_nothing(model, batch):
    pixels, tokens, mask = batch
    with torch.no_grad():
        padded = model(pixels[1:2], tokens[1:2], mask[1:2])
        bare = model(pixels[1:2], tokens[1:2, :7], mask[1:2, :7])
    torch.testing.assert_close(padded, bare, atol=1e-5, rtol=0)


def test_training_goes_the_librarys_way_and_both_have_the_same_gradients(model, batch):
    gradients = []
    for mode in (model.eval, model.train):
        mode()
        model.zero_grad()
        model(*batch).sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    model.eval()
    model.zero_grad()
    quick, library = gradients
    assert sum(gradient is not None for gradient in quick.values()) > 40
    for name, expected in library.items():
        if name.endswith("crossattention.self.key.bias"):  # adds the same to all weights: its gradient is zero
            assert expected.abs().max() < 1e-5
        elif expected is not None:
            torch.testing.assert_close(quick[name], expected, atol=1e-4, rtol=1e-3)
