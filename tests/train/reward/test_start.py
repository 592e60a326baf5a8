"""What a reward begins as."""

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.scorers.blip import BlipScorer
from prefmill.engine.tiny.catalogue import build_named
from prefmill.train.reward.network import RewardNetwork
from prefmill.train.reward.start import load_start

from .conftest import ASPECTS


def test_blip_gives_its_towers_and_a_fresh_head(blip_folder):
    matching = BlipScorer.from_pretrained(str(blip_folder)).model
    model, _ = load_start(blip_folder, (), seed=5)
    for ours, theirs in ((model.vision_model, matching.vision_model), (model.text_model, matching.text_encoder)):
        assert all(torch.equal(ours.state_dict()[name], value) for name, value in theirs.state_dict().items())
    # as ImageReward draws its layers: deviation 1 / (width + 1), bias 0
    drawn = torch.randn(1, 16, generator=torch.Generator().manual_seed(5)) / 17
    assert torch.equal(model.head.weight, drawn)
    assert not model.head.bias.any()
    assert (model.config.reward_mean, model.config.reward_deviation) == (0.0, 1.0)
    assert not torch.equal(load_start(blip_folder, (), seed=6)[0].head.weight, drawn)


def test_a_reward_gives_its_head_to_every_aspect():
    folder = build_named("image-reward")
    model, _ = load_start(folder, ASPECTS, seed=0)
    assert torch.equal(model.aspect_heads.weight, model.head.weight.expand(2, -1))
    assert model.head.weight.abs().max() > 0


def test_another_model_is_refused():
    with pytest.raises(PrefmillError, match="a 'clip' model") as caught:
        load_start(build_named("clip"), (), seed=0)
    assert "Salesforce/blip-itm" in caught.value.fix


def test_share_of_frozen_layers_is_that_of_both_towers(blip_folder):
    model, _ = load_start(blip_folder, (), seed=0)
    network = RewardNetwork(model, 0.7)
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    # int(0.7 * 3) = 2 layers of each tower, the embeddings before them, and nothing else
    wanted = ("vision_model.embeddings.", "vision_model.encoder.layers.0.", "vision_model.encoder.layers.1.")
    wanted += ("text_model.embeddings.", "text_model.encoder.layer.0.", "text_model.encoder.layer.1.")
    no_gradient = "text_model.encoder.layer.2.crossattention.self.key.bias"  # it is the same for all weights
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(wanted)} | {no_gradient}
    assert network.depth == 2
    everything = RewardNetwork(load_start(blip_folder, (), seed=0)[0], 0.0)
    still = {name for name, value in everything.model.named_parameters() if not value.requires_grad}
    assert still == {f"text_model.encoder.layer.{number}.crossattention.self.key.bias" for number in range(3)}
    head_alone = RewardNetwork(load_start(blip_folder, (), seed=0)[0], 1.0)
    learning = {name for name, value in head_alone.named_parameters() if value.requires_grad}
    assert learning == {"model.head.weight", "model.head.bias"}
