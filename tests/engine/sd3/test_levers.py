"""What levers leave out, step by step, on a network whose velocities are known: no checkpoint is needed."""

from typing import Any

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.device import Execution
from prefmill.engine.sd3.denoise import Drawing, Schedule, Stochastic
from prefmill.engine.sd3.guidance import Conditioning
from prefmill.engine.sd3.levers import Levers
from prefmill.engine.sd3.step import Steps
from prefmill.engine.sd3.text import TextEmbedding

LEVELS = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.125, 0.0])
SCALES = torch.tensor([3.0, 5.0])


class Flow:
    """Velocities that are plain functions of latents, prompt and level, and a count of what ran."""

    execution = Execution("eager", "float32", "cpu")
    network: Any = None
    fallback = ""
    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, log, name):
        self.log, self.name = log, name

    def run(self, inputs):
        self.log.append((self.name, len(inputs["latents"])))
        x, s = inputs["latents"], inputs["level"].view(-1, 1, 1, 1)
        c = x + inputs["pooled"].view(-1, 1, 1, 1) * s
        u, w = (c, 1.0) if self.name == "plain" else (x - s, inputs["guidance"].view(-1, 1, 1, 1))
        d = inputs["following"].view(-1, 1, 1, 1) - s
        return {"next_latents": x + d * (u + w * (c - u)), "prompted": c, "unprompted": u}


def drawing(levers=None, sampler=None, log=None):
    log = [] if log is None else log
    text = TextEmbedding(torch.zeros(2, 1, 1), torch.tensor([[2.0], [0.5]]))
    conditioning = Conditioning(text, SCALES, TextEmbedding(torch.zeros(1, 1, 1), torch.zeros(1, 1)))
    start = torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    steps = Steps(Flow(log, "guided"), Flow(log, "plain"))
    return start, Drawing(steps, start, conditioning, Schedule(LEVELS, LEVELS[:-1] * 1000), sampler, levers)


def by_hand(start, guides):
    """Euler's method with the guidance of `guides`, in float64."""
    x, direction = start.double(), torch.zeros_like(start).double()
    past = []
    prompt, w = torch.tensor([2.0, 0.5]).double().view(-1, 1, 1, 1), SCALES.double().view(-1, 1, 1, 1)
    for number, guide in enumerate(guides):
        s, d = LEVELS[number].double(), (LEVELS[number + 1] - LEVELS[number]).double()
        if guide == "extrapolated":
            (first, then), (level, latest) = past[-2:]
            x = x + d * (latest + (latest - then) / (level - first) * (s - level))
            continue
        c = x + prompt * s
        direction = c - (x - s) if guide == "guided" else direction
        velocity = c + (w - 1) * direction if guide != "plain" else c
        past.append((s, velocity))
        x = x + d * velocity
    return x


@pytest.mark.parametrize(
    ("levers", "guides"),
    [
        (Levers(), ["guided"] * 5),
        (Levers(guidance_cache=2), ["guided", "reused", "guided", "reused", "guided"]),
        (Levers(guidance_cache=9), ["guided"] + ["reused"] * 4),
        (Levers(guidance_interval=(0.125, 0.75)), ["plain", "guided", "guided", "guided", "plain"]),
        (Levers(guidance_interval=(0.125, 0.75), guidance_cache=2), ["plain", "guided", "reused", "guided", "plain"]),
        (Levers(step_cache=2), ["guided", "guided", "extrapolated", "guided", "extrapolated"]),
        (Levers(step_cache=3), ["guided", "guided", "extrapolated", "extrapolated", "guided"]),
        (Levers(step_cache=2, guidance_cache=2), ["guided", "reused", "extrapolated", "guided", "extrapolated"]),
    ],
    ids=str,
)
def test_a_lever_leaves_out_what_it_says_and_computes_the_rest(levers, guides):
    assert levers.guides(LEVELS[:-1].tolist()) == guides
    log = []
    start, states = drawing(levers, log=log)
    *_, last = states
    ran = [guide for guide in guides if guide != "extrapolated"]
    assert [name for name, _ in log] == ["guided" if guide == "guided" else "plain" for guide in ran]
    torch.testing.assert_close(last.latents.double(), by_hand(start, guides), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last.clean(), last.latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "levers",
    [Levers(), Levers(guidance_cache=3), Levers(guidance_interval=(0.3, 0.9)), Levers(step_cache=2)],
    ids=str,
)
@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_row_that_is_kept_goes_on_as_if_nothing_had_happened(levers, after):
    whole = list(drawing(levers)[1])[-1].latents
    log = []
    _, states = drawing(levers, log=log)
    last = torch.empty(0)
    for state in states:
        if state.step == after:
            states.keep(torch.tensor([1]))
        last = state.latents
    ran = [number for number, guide in enumerate(levers.guides(LEVELS[:-1].tolist())) if guide != "extrapolated"]
    assert [rows for _, rows in log] == [2 if number < after else 1 for number in ran]
    assert torch.equal(last, whole[1:])


def test_unguided_drawings_are_extrapolated_too():
    levers = Levers(step_cache=3)
    guides = levers.guides(LEVELS[:-1].tolist(), guided_drawing=False)
    assert guides == ["plain", "plain", "extrapolated", "extrapolated", "plain"]


def test_levers_are_for_eulers_method():
    with pytest.raises(PrefmillError, match="cannot be combined with guidance_cache"):
        drawing(Levers(guidance_cache=2), Stochastic(seeds=(1, 2)))
    _, states = drawing(sampler=Stochastic(seeds=(1, 2)))
    with pytest.raises(PrefmillError, match="keeps all its rows"):
        states.keep(torch.tensor([0]))


@pytest.mark.parametrize("interval", [(0.8, 0.2), (0.2, 0.2), (-0.1, 0.5), (0.5, 1.5)])
def test_an_interval_that_is_none(interval):
    with pytest.raises(ValueError, match="from a lower to a higher noise level"):
        Levers(guidance_interval=interval)


def test_a_lever_in_use_has_a_name_and_one_that_is_off_has_none():
    assert Levers().named == {}
    assert Levers(guidance_cache=2, guidance_interval=(0.1, 0.9)).named == {
        "guidance_cache": 2,
        "guidance_interval": [0.1, 0.9],
    }
