"""Advantages against numpy's own arithmetic, and every kind of group that says nothing."""

import math

import numpy as np
import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.train.generator.ppo.advantage import added_advantages, advantages

REWARDS = [[0.1, 0.5, 0.3, 1.9], [2.0, 2.5, 2.25, 2.125]]


@pytest.mark.parametrize("spread", ["global", "group"])
def test_advantages_are_numpys(spread):
    rewards = np.array(REWARDS)
    scale = rewards.std() if spread == "global" else rewards.std(1, keepdims=True)
    truth = (rewards - rewards.mean(1, keepdims=True)) / (scale + 1e-4)
    got = advantages(torch.tensor(REWARDS), spread)
    np.testing.assert_allclose(got.values.numpy(), truth, atol=1e-5)
    assert got.kept.all()
    assert (got.unusable, got.small, got.equal) == (0, 0, 0)


def test_advantages_end_at_five():
    rewards = torch.zeros(1, 100)
    rewards[0, 0] = 1.0
    assert advantages(rewards).values[0, 0] == 5.0
    assert advantages(-rewards).values[0, 0] == -5.0


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_reward_that_is_no_number_takes_its_image_out(broken):
    got = advantages(torch.tensor([[0.1, broken, 0.3, 1.9], REWARDS[1]]))
    left = np.array([0.1, 0.3, 1.9])
    scale = np.array([*left, *REWARDS[1]]).std() + 1e-4
    np.testing.assert_allclose(got.values[0, [0, 2, 3]].numpy(), (left - left.mean()) / scale, atol=1e-5)
    assert got.kept[0].tolist() == [True, False, True, True]
    assert got.values[0, 1] == 0
    assert (got.unusable, got.small, got.equal) == (1, 0, 0)


@pytest.mark.parametrize("spread", ["global", "group"])
def test_groups_that_say_nothing_are_dropped_and_counted(spread):
    nan = math.nan
    got = advantages(torch.tensor([[0.7] * 4, REWARDS[0], [nan, nan, nan, 0.2], [nan] * 4]), spread)
    assert got.kept.any(1).tolist() == [False, True, False, False]
    assert (got.unusable, got.small, got.equal) == (7, 2, 1)
    assert got.values.isfinite().all()
    assert not got.values[[0, 2, 3]].any()


def test_rounding_is_no_spread():
    """The last bit of a float32 reward must not become an advantage of 1."""
    bit = float(np.nextafter(np.float32(3.0), np.float32(4.0)))
    assert advantages(torch.tensor([[3.0, bit]]), "group").equal == 1


def test_several_rewards_are_normalised_each_and_added():
    parts = {"one": torch.tensor(REWARDS), "other": 100 * torch.tensor(REWARDS).flip(1)}
    got = added_advantages(parts, {"one": 1.0, "other": 0.5})
    one, other = advantages(parts["one"]), advantages(parts["other"])
    torch.testing.assert_close(got.values, one.values + 0.5 * other.values)
    # by the sum of the rewards the second would have decided alone
    summed = advantages(parts["one"] + 0.5 * parts["other"])
    torch.testing.assert_close(summed.values, other.values, atol=0.1, rtol=0)


def test_an_image_counts_only_where_all_rewards_are_finite():
    parts = {
        "one": torch.tensor([[1.0, 2.0, 3.0], [1.0] * 3]),
        "other": torch.tensor([[math.nan, 1.0, 2.0], [5.0] * 3]),
    }
    got = added_advantages(parts, {"one": 1.0, "other": 1.0})
    assert got.kept.tolist() == [[False, True, True], [False] * 3]
    assert (got.unusable, got.small, got.equal) == (1, 0, 1)
    assert got.values[0, 0] == 0


def test_a_reward_without_spread_leaves_the_others_to_decide():
    parts = {"flat": torch.full((1, 3), 2.0), "other": torch.tensor([[1.0, 2.0, 3.0]])}
    got = added_advantages(parts, {"flat": 1.0, "other": 1.0})
    torch.testing.assert_close(got.values, advantages(parts["other"]).values)
    assert got.equal == 0
    assert got.kept.all()


def test_groups_of_one():
    with pytest.raises(PrefmillError, match="at least two images"):
        advantages(torch.zeros(4, 1))
