"""The sampling loop: what it yields, that it never waits for the device, and the densities of its stochastic steps."""

from typing import Any

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.device import EngineSettings, Execution
from prefmill.engine.sd3.denoise import Drawing, Stochastic
from prefmill.engine.sd3.guidance import Conditioning
from prefmill.engine.sd3.step import Steps
from prefmill.engine.sd3.text import TextEmbedding
from prefmill.engine.sd3.text_to_image import TextToImage

PROMPTS, GUIDANCE, SEEDS = ["a red cat", "two dogs"], [5.0, 1.0], [1, 2]
SIZE: Any = {"steps": 4, "width": 64, "height": 48}


@pytest.fixture(scope="module")
def engine(engine_checkpoints):
    return TextToImage.from_pretrained(str(engine_checkpoints["text-to-image"]), EngineSettings(device="cpu"))


def states(engine, sampler=None):
    with torch.inference_mode():
        return list(engine.denoise(PROMPTS, GUIDANCE, SEEDS, **SIZE, sampler=sampler))


def test_states_fall_to_the_image(engine):
    got = states(engine)
    assert [state.step for state in got] == [1, 2, 3, 4]
    levels = [state.level for state in got]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == 0
    assert all(state.logp is None for state in got)
    with torch.inference_mode():
        assert torch.equal(engine.decode(got[-1].latents), engine.generate_float(PROMPTS, GUIDANCE, SEEDS, **SIZE))
        # what the last velocities point to is where the last step goes
        assert torch.equal(got[-1].clean(), got[-1].latents)


def test_clean_latents_are_those_of_the_flow(engine):
    """x(s) = (1 - s) clean + s noise moves at noise - clean: two latents of one step give the clean ones back."""
    start = engine.noise(SEEDS, width=SIZE["width"], height=SIZE["height"])
    got = states(engine)
    for before, level, state in zip(
        [start, *(s.latents for s in got)], [1.0, *(s.level for s in got)], got, strict=False
    ):
        velocity = (state.latents - before).double() / (state.level - level)
        torch.testing.assert_close(state.clean().double(), before - level * velocity, atol=2e-5, rtol=1e-5)


class OnMeta:
    """A runner of tensors without values: whatever reads one raises."""

    execution = Execution("eager", "float32", "meta")
    network: Any = None
    fallback = ""
    dtype, device = torch.float32, torch.device("meta")

    def __init__(self, reads=False):
        self.calls, self.reads = 0, reads

    def run(self, inputs):
        self.calls += 1
        if self.reads:
            inputs["latents"].sum().item()
        velocity = inputs["latents"] * inputs["times"].view(-1, 1, 1, 1)
        return {"next_latents": velocity, "prompted": velocity, "unprompted": velocity}


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("sampler", [None, Stochastic(seeds=(1, 2))], ids=["euler", "stochastic"])
def test_no_step_waits_for_the_device(engine, engine_checkpoints, sampler, guided):
    """On the meta device a value cannot be read: item, bool, tolist and copies to the CPU all raise."""
    network = TextToImage.from_pretrained(str(engine_checkpoints["text-to-image"]), EngineSettings(device="cpu"))
    network.steps.guided.network.module.to("meta")
    embedding = engine.encode("a cat")
    text = TextEmbedding(embedding.tokens.expand(2, -1, -1).to("meta"), embedding.pooled.expand(2, -1).to("meta"))
    empty = TextEmbedding(embedding.tokens.to("meta"), embedding.pooled.to("meta"))
    latents = engine.noise(SEEDS, width=64, height=48).to("meta")
    conditioning = Conditioning(text, torch.ones(2, device="meta"), empty if guided else None)
    got = list(Drawing(network.steps, latents, conditioning, schedule(engine), sampler))
    assert len(got) == 4
    assert all(state.clean().device.type == "meta" for state in got)
    reader = OnMeta(reads=True)
    with pytest.raises(RuntimeError, match="meta"):
        list(Drawing(Steps(reader, reader), latents, conditioning, schedule(engine), sampler))


def schedule(engine):
    from prefmill.engine.sd3.denoise import make_schedule

    return make_schedule(engine.scheduler, 4, 12)


def test_unguided_rows_alone_run_the_transformer_once_per_row(engine, monkeypatch):
    sizes = []
    module = engine.steps.guided.network.module
    forward = module.forward

    def counting(hidden_states, **inputs):
        sizes.append(len(hidden_states))
        return forward(hidden_states, **inputs)

    monkeypatch.setattr(module, "forward", counting)
    with torch.inference_mode():
        list(engine.denoise(PROMPTS, (1.0, 0.0), SEEDS, **SIZE))
        assert set(sizes) == {2}
        sizes.clear()
        list(engine.denoise(PROMPTS, (1.0, 5.0), SEEDS, **SIZE))
        assert set(sizes) == {4}


def test_log_probabilities_are_those_of_the_sde_and_a_rollout_gives_them_again(engine):
    drawn = states(engine, Stochastic(seeds=(7, 8), noise_level=0.6))
    assert drawn[-1].logp is None
    start = engine.noise(SEEDS, width=SIZE["width"], height=SIZE["height"])
    levels = [1.0, *(state.level for state in drawn)]
    for number, (before, state) in enumerate(zip([start, *(s.latents for s in drawn)], drawn[:-1], strict=False)):
        x, s, d = before.double(), levels[number], levels[number + 1] - levels[number]
        v = (x - state.clean().double()) / s
        a = 0.6 * (s / (1 - (levels[1] if s == 1 else s))) ** 0.5
        mean = x * (1 + a**2 * d / (2 * s)) + v * d * (1 + a**2 * (1 - s) / (2 * s))
        truth = torch.distributions.Normal(mean, a * (-d) ** 0.5).log_prob(state.latents.double()).flatten(1).mean(1)
        torch.testing.assert_close(state.logp.double(), truth, atol=2e-5, rtol=2e-5)
    again = states(engine, Stochastic(noise_level=0.6, rollout=[state.latents for state in drawn]))
    for first, second in zip(drawn[:-1], again[:-1], strict=True):
        assert torch.equal(first.logp, second.logp)
    assert torch.equal(drawn[-1].latents, again[-1].latents)


def test_steps_outside_the_window_are_eulers(engine):
    """Up to the window the states are the ODE's; after it, each is where Euler's method goes from the one before."""
    ode, windowed = states(engine), states(engine, Stochastic(seeds=(7, 8), window=range(1, 2)))
    assert [state.logp is not None for state in windowed] == [False, True, False, False]
    assert torch.equal(windowed[0].latents, ode[0].latents)
    assert (windowed[1].latents - ode[1].latents).abs().mean() > 1e-2
    begin, end = windowed[1].level, windowed[2].level
    assert torch.equal(windowed[2].before, windowed[1].latents)
    velocity = (windowed[2].before - windowed[2].clean()) / begin
    moved = windowed[2].before + (end - begin) * velocity
    torch.testing.assert_close(windowed[2].latents, moved, atol=1e-5, rtol=1e-5)


def test_a_window_draws_the_noise_that_its_rows_seeds_give_first(engine):
    whole = states(engine, Stochastic(seeds=(7, 8)))
    first = states(engine, Stochastic(seeds=(7, 8), window=range(1)))
    assert torch.equal(first[0].latents, whole[0].latents)
    assert torch.equal(first[0].logp, whole[0].logp)


@pytest.mark.parametrize(
    "sampler",
    [
        Stochastic(seeds=(7, 8), noise_level=0.0),
        Stochastic(seeds=(7, 8), window=range(2, 2)),
        Stochastic(seeds=(7, 8), noise_level=1e-6),
    ],
    ids=["no noise", "no window", "next to no noise"],
)
def test_without_noise_the_sde_is_the_ode(engine, sampler):
    for drawn, truth in zip(states(engine, sampler), states(engine), strict=True):
        torch.testing.assert_close(drawn.latents, truth.latents, atol=1e-5, rtol=0)


def test_a_rows_noise_is_its_own(engine):
    both = states(engine, Stochastic(seeds=(7, 8)))[-1].latents
    with torch.inference_mode():
        *_, alone = engine.denoise(PROMPTS[1:], GUIDANCE[1:], SEEDS[1:], **SIZE, sampler=Stochastic(seeds=(8,)))
        *_, other = engine.denoise(PROMPTS[1:], GUIDANCE[1:], SEEDS[1:], **SIZE, sampler=Stochastic(seeds=(9,)))
    torch.testing.assert_close(both[1], alone.latents[0], atol=1e-4, rtol=1e-4)
    assert (both[1] - other.latents[0]).abs().mean() > 1e-2


def test_gradients_of_a_rollouts_log_probabilities_reach_the_transformer(engine):
    rollout = [state.latents.clone() for state in states(engine, Stochastic(seeds=(7, 8)))]
    weight = engine.steps.guided.network.module.proj_out.weight
    with torch.enable_grad():
        first = next(iter(engine.denoise(PROMPTS, GUIDANCE, SEEDS, **SIZE, sampler=Stochastic(rollout=rollout))))
        (gradient,) = torch.autograd.grad(first.logp.sum(), weight)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (Stochastic(seeds=(1,)), "1 noise seeds"),
        (Stochastic(seeds=(1, 2), noise_level=-0.1), "noise_level -0.1"),
        (Stochastic(seeds=(1, 2), noise_level=float("nan")), "noise_level nan"),
        (Stochastic(seeds=(1, 2), window=range(2, 4)), r"range\(2, 4\) does not lie inside the 4 steps"),
        (Stochastic(seeds=(1, 2), window=range(-1, 2)), "does not lie inside"),
        (Stochastic(seeds=(1, 2), window=range(0, 3, 2)), "does not lie inside"),
        (Stochastic(rollout=[torch.zeros(1)]), "rollout has 1"),
    ],
)
def test_samplers_that_do_not_fit(engine, sampler, message):
    with pytest.raises(PrefmillError, match=message):
        states(engine, sampler)
