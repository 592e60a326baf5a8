"""The loss against plain loops in float64: over pairs, and over a network that reads every image of every pair anew."""

import math

import pytest
import torch
from prefmill.engine.image_inputs import ImagePreprocessing
from prefmill.engine.networks.image_reward import ImageRewardModel
from prefmill.engine.text import tokenize_prompts
from prefmill.train.data import RunImages
from prefmill.train.reward.batches import RewardBatches
from prefmill.train.reward.data import compared_prompts, load_preferences
from prefmill.train.reward.network import RewardNetwork
from prefmill.train.reward.objective import Comparisons, compare, means, sums_by_prompt
from prefmill.train.reward.start import load_start

from .conftest import ASPECTS

REWARDS = [[0.3, -1.0], [1.2, 0.5], [-0.4, 0.5], [2.0, 0.0]]
#         chosen, rejected, head, weight, prompt, aspect
PAIRS = [(1, 0, 0, 1.0, 0, 0), (2, 1, 1, 0.5, 0, 1), (0, 2, 0, 2.0, 0, 0), (3, 2, 1, 1.5, 1, 1)]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_of_pairs_is_that_of_a_plain_loop(smoothing):
    pairs = Comparisons(*(torch.tensor(column) for column in zip(*PAIRS, strict=True)))
    compared = compare(torch.tensor(REWARDS, dtype=torch.float64), pairs, smoothing)
    for place, (chosen, rejected, head, weight, _, _) in enumerate(PAIRS):
        difference = REWARDS[chosen][head] - REWARDS[rejected][head]
        right = 1 / (1 + math.exp(-difference))
        wanted = -weight * ((1 - smoothing) * math.log(right) + smoothing * math.log(1 - right))
        assert compared.loss[place].item() == pytest.approx(wanted, abs=1e-12)
        assert compared.difference[place].item() == pytest.approx(difference, abs=1e-12)


def test_means_count_a_tie_as_wrong_and_name_every_aspect():
    pairs = Comparisons(*(torch.tensor(column) for column in zip(*PAIRS, strict=True)))
    compared = compare(torch.tensor(REWARDS, dtype=torch.float64), pairs)
    told = means(sums_by_prompt(compared, pairs, prompts=2, aspects=2).sum(0), ("first", "second"))
    # 1.2 > 0.3 and 0.3 > -0.4 by the first head; 0.5 = 0.5 and 0.0 < 0.5 by the second
    assert told["accuracy"] == 0.5
    assert (told["accuracy/first"], told["accuracy/second"]) == (1.0, 0.0)
    assert told["loss"] == pytest.approx(compared.loss.mean().item(), abs=1e-12)
    assert told["margin"] == pytest.approx((0.9 + 0.0 + 0.7 - 0.5) / 4, abs=1e-12)


def _of_pair_alone(model: ImageRewardModel, pixels: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor, head: int):
    """One image through the library's own forward of both towers, in training mode with its dropout at zero."""
    image = model.vision_model(pixels[None]).last_hidden_state
    text = model.text_model(tokens, attention_mask=mask, encoder_hidden_states=image, is_decoder=False)
    return model.aspect_heads(text.last_hidden_state[:, 0])[0, head]


def test_gradients_of_a_batch_are_those_of_a_plain_loop_over_pairs(blip_folder, compared_run):
    """Grouped: 4 prompts of 3 images are 12 readings; the loop reads two images for each of 24 pairs."""
    model, tokenizer = load_start(blip_folder, ASPECTS, seed=0)
    model.double().train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0  # type: ignore[reportArgumentType]
    network = RewardNetwork(model, frozen_share=0.4)
    images = RunImages(compared_run)
    prompts = compared_prompts(load_preferences(compared_run, ASPECTS))[:4]
    batch = RewardBatches(tokenizer, images, ImagePreprocessing(32), ASPECTS, per_aspect=True)(prompts)
    inputs = {name: value.double() if value.is_floating_point() else value for name, value in batch["model"].items()}
    assert len(inputs["pixels"]) == 12
    loss = compare(network(**inputs), batch["pairs"]).loss.mean()
    learning = {name: value for name, value in network.named_parameters() if value.requires_grad}
    got = dict(zip(learning, torch.autograd.grad(loss, list(learning.values())), strict=True))

    pixels = ImagePreprocessing(32)
    losses = []
    for prompt in prompts:
        tokens, mask, _ = tokenize_prompts(tokenizer, [prompt.text], 35)
        for one in prompt.preferences:
            read = [pixels.pixels([images.load(image)])[0].double() for image in (one.chosen_id, one.rejected_id)]
            chosen, rejected = (_of_pair_alone(model, each, tokens, mask, ASPECTS.index(one.aspect)) for each in read)
            losses.append(torch.log1p(torch.exp(rejected - chosen)))
    wanted_loss = torch.stack(losses).mean()
    wanted = dict(zip(learning, torch.autograd.grad(wanted_loss, list(learning.values())), strict=True))

    assert len(losses) == 24
    assert loss.item() == pytest.approx(wanted_loss.item(), abs=1e-8)  # the look's softmax is in float32
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-8, msg=name)
    assert any(gradient.abs().max() > 1e-4 for gradient in wanted.values())
