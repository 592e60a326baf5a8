"""Agreement against values worked out by hand, and against numpy's correlation."""

import numpy as np
import pytest
from prefmill.pipeline.judging.agreement import agreement, kendall_tau, same_best, spearman


@pytest.mark.parametrize(
    ("x", "y", "tau", "rho"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0, 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0, -1.0),
        # 9 of 10 pairs concordant, 1 discordant; two ranks differ by 1: 1 - 6 * 2 / (5 * 24)
        ([1, 2, 3, 4, 5], [1, 2, 4, 3, 5], 0.8, 0.9),
        # one pair tied in each; of the others 1 is concordant and 3 are discordant: (1 - 3) / sqrt(5 * 5)
        ([1, 1, 2, 3], [1, 2, 2, 0], -0.4, None),
        ([2, 2, 2], [1, 2, 3], None, None),
    ],
)
def test_correlations_of_ranks(x, y, tau, rho):
    found = kendall_tau(x, y)
    if tau is None:
        assert found is None
        assert spearman(x, y) is None
        return
    assert found == pytest.approx(tau)
    if rho is not None:
        assert spearman(x, y) == pytest.approx(rho)


def test_spearman_is_the_correlation_of_mean_ranks():
    drawn = np.random.default_rng(0)
    for _ in range(20):
        x, y = drawn.integers(0, 5, (2, 7))
        ranks = [np.array([np.mean(np.flatnonzero(np.sort(v) == one)) for one in v]) for v in (x, y)]
        if min(ranks[0].std(), ranks[1].std()) > 0:
            correlation = np.asarray(np.corrcoef(np.stack(ranks)))
            assert spearman(x.tolist(), y.tolist()) == pytest.approx(correlation[0, 1])


def test_ties_for_the_best_are_broken_by_a_coin():
    assert same_best([1, 3, 2], [0, 9, 1]) == 1
    assert same_best([1, 3, 2], [9, 0, 1]) == 0
    assert same_best([3, 3, 1], [1, 5, 5]) == 0.25
    assert same_best([3, 3, 3], [1, 5, 0]) == pytest.approx(1 / 3)


def test_panels_are_averaged_and_what_one_did_not_score_is_left_out():
    panels = [
        {"reward": [1.0, 2.0, 3.0], "critic": [1, 2, 3]},
        {"reward": [3.0, 2.0, None, 1.0], "critic": [1, 2, 9, None]},  # two in common: reversed
        {"reward": [1.0, 2.0], "critic": [5, 5]},  # no difference for one of them
        {"reward": [1.0], "critic": [1]},  # nothing to compare
    ]
    assert agreement(panels) == {
        "reward and critic": {
            "panels": 3,
            "kendall_tau": 0.0,
            "spearman": 0.0,
            "same_best": round((1 + 0 + 0.5) / 3, 6),
            "same_worst": round((1 + 0 + 0.5) / 3, 6),
        }
    }
    three = [{"a": [1, 2], "b": [2, 1], "c": [1, 2]}]
    assert {names: found["kendall_tau"] for names, found in agreement(three).items()} == {
        "a and b": -1.0,
        "a and c": 1.0,
        "b and c": -1.0,
    }
    assert agreement([]) == {}
