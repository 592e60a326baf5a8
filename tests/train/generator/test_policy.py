"""What learns and what does not; the reference is the base to the bit; other weights come and go."""

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.sd3.text_to_image import TextToImage
from prefmill.engine.settings import EngineSettings
from prefmill.train.generator.policy import Policy

from .conftest import SIDE, WORDS, scattered

CPU = torch.device("cpu")


@pytest.fixture
def policy(generator_settings, generator_folder):
    return Policy.load(generator_settings(), generator_folder, CPU, torch.float32)


def base_images(folder, scale=2.0):
    base = TextToImage.from_pretrained(str(folder), EngineSettings(device="cpu"), t5_tokens=0)
    return base.generate_float(WORDS[:2], [scale] * 2, [4, 5], steps=3, width=SIDE, height=SIDE)


def test_reference_is_the_base_to_the_bit_and_the_learner_is_not(policy, generator_folder):
    fresh = policy.images(WORDS[:2], 2.0, [4, 5])
    scattered(policy)
    with policy.reference():
        reference = policy.images(WORDS[:2], 2.0, [4, 5])
    learner = policy.images(WORDS[:2], 2.0, [4, 5])
    policy.adapted.unload()  # leaves the base, of the very same tensors
    base = policy.images(WORDS[:2], 2.0, [4, 5])
    assert torch.equal(fresh, base)
    assert torch.equal(reference, base)
    assert not torch.allclose(learner, base, atol=1e-3)
    # loaded once more its tensors lie elsewhere in memory, which small products feel in their last bits
    torch.testing.assert_close(base, base_images(generator_folder), rtol=0, atol=1e-5)


def test_gradients_reach_the_adapter_and_nothing_else(policy):
    scattered(policy)
    latents = torch.randn(2, 16, 2, 2)
    prompted, unprompted = policy.velocities(latents, torch.tensor([500.0, 300.0]), policy.conditioning(WORDS[:2], 3.0))
    (prompted.square().mean() + unprompted.square().mean()).backward()
    touched = {name for name, each in policy.adapted.named_parameters() if each.grad is not None}
    assert touched == {name for name, each in policy.adapted.named_parameters() if each.requires_grad}
    assert touched
    assert all("lora_" in name for name in touched)
    still = {name for name, each in policy.adapted.named_parameters() if each.grad is not None and not each.grad.any()}
    # what the last block's text asks for is thrown away
    assert all(".transformer_blocks.1.attn.add_q_proj." in name for name in still)
    frozen = [policy.engine.autoencoder, *(clip.network.module for clip in policy.engine.text.clips)]
    assert not any(each.requires_grad for part in frozen for each in part.parameters())


def test_velocities_are_those_of_a_drawing(policy):
    """At a step's latents and time they give the step: x' = x + (s' - s) (u + w (c - u))."""
    scattered(policy)
    states = list(policy.draw(WORDS[:2], 3.0, [1, 2]))
    schedule = policy.schedule()
    conditioning = policy.conditioning(WORDS[:2], 3.0)
    times = schedule.times[1].expand(2)
    assert torch.equal(times, policy.times(schedule.levels[1].expand(2)))
    prompted, unprompted = policy.velocities(states[0].latents, times, conditioning)
    velocity = unprompted + 3.0 * (prompted - unprompted)
    expected = states[0].latents + (schedule.levels[2] - schedule.levels[1]) * velocity
    torch.testing.assert_close(states[1].latents, expected, rtol=1e-5, atol=1e-5)
    assert not states[1].latents.requires_grad


def test_average_follows_and_other_weights_leave_no_trace(policy):
    start = policy.weights()
    scattered(policy)
    own = policy.weights()
    policy.update_average()
    for mean, before, now in zip(policy.average, start, own, strict=True):
        torch.testing.assert_close(mean, 0.5 * before + 0.5 * now)
    with policy.averaged():
        assert all(torch.equal(a, b) for a, b in zip(policy.weights(), policy.average, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(policy.weights(), own, strict=True))
    policy.anchor = own
    scattered(policy, 0.5)
    with policy.reference():
        assert all(torch.equal(a, b) for a, b in zip(policy.weights(), own, strict=True))


def test_adapter_is_written_as_generating_takes_it(policy, generator_folder, tmp_path):
    scattered(policy)
    policy.average = policy.weights()
    policy.save_adapter(tmp_path / "adapter")
    loaded = TextToImage.from_pretrained(
        str(generator_folder), EngineSettings(device="cpu"), t5_tokens=0, adapter=tmp_path / "adapter"
    )
    drawn = loaded.generate_float(WORDS[:2], [2.0] * 2, [4, 5], steps=3, width=SIDE, height=SIDE)
    torch.testing.assert_close(policy.images(WORDS[:2], 2.0, [4, 5]), drawn, rtol=1e-4, atol=1e-4)


def test_images_survive_the_autoencoder_in_the_model_s_scale(policy):
    """encode undoes what decode does to scale and shift."""
    autoencoder = policy.engine.autoencoder
    images = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        raw = autoencoder.encode(images * 2 - 1).latent_dist.mode()
    torch.testing.assert_close(policy.encode(images), (raw - 0.0609) * 1.5305)


def test_a_size_that_the_model_cannot_draw_is_refused(generator_settings, generator_folder):
    policy = Policy.load(generator_settings(width=20), generator_folder, CPU, torch.float32)
    with pytest.raises(PrefmillError, match="width 20 must be a multiple of 16"):
        policy.images(["a boat"], 1.0, [1])
