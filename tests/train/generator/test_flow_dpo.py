"""Flow-DPO against numbers computed by hand in float64, and by the library's own classes."""

import math

import numpy as np
import pytest
import torch
from diffusers import SD3Transformer2DModel  # pyright: ignore[reportPrivateImportUsage]
from peft import PeftModel
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.records import seed_for
from prefmill.train.generator.flow_dpo import FlowDpo, pair_losses
from prefmill.train.generator.online import OnlinePairs
from prefmill.train.generator.preferences import StoredImages, load_image_pairs

from .conftest import WORDS, scattered


def test_loss_is_the_formula_in_float64():
    own, reference = np.array([[0.52, 0.9], [0.61, 0.4]]), np.array([[0.55, 0.8], [0.6, 0.5]])
    beta = 100.0
    lead = (own[0] - reference[0]) - (own[1] - reference[1])
    expected = -np.log(1 / (1 + np.exp(0.5 * beta * lead)))
    found = pair_losses(torch.tensor(own), torch.tensor(reference), beta)
    np.testing.assert_allclose(found.loss.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(found.margin.numpy(), -0.5 * beta * lead, rtol=1e-12)


def by_the_library(task, images, generator_folder, folder, step):
    """The step's loss, in float64 from velocities of diffusers' and peft's own classes."""
    task.policy.average = task.policy.weights()
    task.policy.save_adapter(folder)
    networks = []
    for adapted in (True, False):
        network = SD3Transformer2DModel.from_pretrained(generator_folder / "transformer")
        networks.append(PeftModel.from_pretrained(network, str(folder)) if adapted else network)
    losses = []
    for row in task.chosen(len(task.pairs), 2, step):
        pair = task.pairs[row]
        stream = torch.Generator().manual_seed(seed_for(pair.id, "flow-dpo", step, task.config.seed))
        level = 1 / (1 + math.exp(-torch.randn(1, generator=stream).item()))
        noise = torch.randn((16, 2, 2), generator=stream)
        text = task.policy.engine.encode(pair.prompt)
        errors = []
        for network in networks:
            for image_id in (pair.chosen_id, pair.rejected_id):
                stored = images.candidate(image_id)
                clean = task.policy.encode(images.pixels(stored, 16, 16)[None])[0]
                with torch.no_grad():
                    velocity = network(
                        hidden_states=((1 - level) * clean + level * noise)[None],
                        timestep=torch.tensor([1000 * level]),
                        encoder_hidden_states=text.tokens,
                        pooled_projections=text.pooled,
                    ).sample[0]
                errors.append((velocity.double() - (noise - clean).double()).square().mean().item())
        lead = (errors[0] - errors[2]) - (errors[1] - errors[3])
        losses.append(math.log1p(math.exp(0.5 * task.config.flow_dpo.beta * lead)))
    return sum(losses) / len(losses)


def test_a_step_is_what_the_library_s_classes_give(
    make_task, generator_settings, generator_folder, image_run, tmp_path
):
    task = make_task(generator_settings(flow_dpo={"beta": 20.0}))
    scattered(task.policy)
    method = FlowDpo(task, StoredImages(image_run))
    found = float(sum(method.losses(1)))
    expected = by_the_library(task, StoredImages(image_run), generator_folder, tmp_path / "adapter", 1)
    assert found == pytest.approx(expected, rel=1e-4)
    assert abs(found - math.log(2)) > 1e-3
    told = method.metrics()
    assert told["accuracy"] in (0.0, 0.5, 1.0)
    assert method.metrics() == {}


def test_a_fresh_adapter_has_log_two_and_a_gradient(make_task, generator_settings, image_run):
    task = make_task(generator_settings())
    for loss in FlowDpo(task, StoredImages(image_run)).losses(0):
        assert loss.item() * 2 == pytest.approx(math.log(2), rel=1e-6)  # one of two micro-batches
        loss.backward()
    assert sum(float(each.grad.abs().sum()) for each in task.policy.parameters if each.grad is not None) > 0


def test_own_noise_is_that_of_the_stored_seed(make_task, generator_settings, image_run):
    task = make_task(generator_settings(flow_dpo={"noise": "own"}))
    method = FlowDpo(task, StoredImages(image_run))
    pairs, whole = method._pairs(0)
    assert whole == 2
    for pair in pairs:
        assert pair.noise is not None
        for seed, noise in zip((10, 11), pair.noise, strict=True):
            assert torch.equal(noise, torch.randn((16, 2, 2), generator=torch.Generator().manual_seed(seed)))


def test_processes_share_a_step(make_task, generator_settings, image_run):
    """Two of them, each alone, have the losses whose mean is that of one."""
    task = make_task(generator_settings())
    scattered(task.policy)
    whole = float(sum(FlowDpo(task, StoredImages(image_run)).losses(0)))
    parts = []
    for rank in range(2):
        share = type(task)(
            task.policy, task.config, task.prompts, task.reward, task.pairs, rank, 2, lambda one: one.repeat(2)
        )
        parts.append(float(sum(FlowDpo(share, StoredImages(image_run)).losses(0))))
    assert sum(parts) / 2 == pytest.approx(whole, rel=1e-6)
    assert parts[0] != parts[1]


def test_online_pairs_are_the_extremes_of_their_groups(make_task, generator_settings):
    task = make_task(generator_settings(flow_dpo={"online": True, "group_size": 3}))
    pairs = OnlinePairs(task)
    drawn = pairs.draw(0)
    assert len(drawn) == 2
    for one in drawn:
        scores = task.reward(task.policy.engine.decode(torch.stack([one.best, one.worst])), [one.prompt] * 2).values
        assert scores[0] > scores[1]
    told = pairs.metrics()
    assert told["images"] == 6
    assert told["dropped_groups"] == 0
    assert told["diversity"] > 0


def test_a_broken_reward_is_dropped_and_counted_and_stops_the_training_when_all_are(make_task, generator_settings):
    config = generator_settings(flow_dpo={"online": True, "group_size": 2})
    task = make_task(config, broken=WORDS[:3])
    method = FlowDpo(task)
    steps = [step for step in range(4) if any(task.prompts[row].text == WORDS[3] for row in task.chosen(4, 2, step))]
    assert len(list(method.losses(steps[0]))) == 2
    told = method.metrics()
    assert (told["unusable"], told["dropped_groups"]) == (2, 1)
    other = next(step for step in range(4) if step not in steps)
    with pytest.raises(PrefmillError, match=f"every image of step {other + 1} is no number"):
        list(method.losses(other))


def test_a_run_without_preferences_by_an_aspect_says_which_it_has(image_run):
    with pytest.raises(PrefmillError, match=r"by fidelity \(it has: overall\)"):
        load_image_pairs(image_run, "fidelity")
