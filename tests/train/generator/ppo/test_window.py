"""Windows lie inside the schedule, never on its last step, and move as they were told to."""

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.train.generator.ppo.window import stochastic_steps, trainable_steps


def test_the_last_step_is_never_trained():
    assert trainable_steps(10, 1.0) == trainable_steps(10, 0.99) == 9
    assert trainable_steps(10, 0.5) == 5
    assert stochastic_steps(10, 0, 1.0, "random", rollout=3, seed=0) == range(9)


def test_a_random_window_reaches_every_place_and_repeats():
    drawn = [stochastic_steps(8, 2, 0.5, "random", rollout=number, seed=1) for number in range(60)]
    assert set(drawn) == {range(0, 2), range(1, 3), range(2, 4)}
    assert drawn == [stochastic_steps(8, 2, 0.5, "random", rollout=number, seed=1) for number in range(60)]
    assert drawn != [stochastic_steps(8, 2, 0.5, "random", rollout=number, seed=2) for number in range(60)]


def test_a_progressive_window_moves_on_and_back_to_the_beginning():
    drawn = [stochastic_steps(6, 3, 1.0, "progressive", rollout=n, seed=0, every=2).start for n in range(8)]
    assert drawn == [0, 0, 1, 1, 2, 2, 0, 0]


@pytest.mark.parametrize(("steps", "size", "fraction"), [(8, 5, 0.5), (1, 0, 1.0), (4, 4, 1.0), (8, 0, 0.1)])
def test_windows_that_do_not_fit(steps, size, fraction):
    with pytest.raises(PrefmillError, match="does not fit"):
        stochastic_steps(steps, size, fraction, "random", rollout=0, seed=0)
