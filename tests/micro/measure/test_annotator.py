import numpy as np
import pytest
from prefmill.micro.measure.annotator import agreement


def test_agreement_counts_the_pairs_that_the_truth_separates():
    truth = np.array([[1.0, 2.0, 2.0], [3.0, 3.0, 5.0]])
    assert agreement(truth, truth) == 1
    assert agreement(-truth, truth) == 0
    assert agreement(np.ones((2, 3)), truth) == 0.5
    # of four pairs that differ one is the other way round, one is a tie, and one is not rated
    said = np.array([[2.0, 1.0, 2.0], [1.0, np.nan, 2.0]])
    assert agreement(said, truth) == pytest.approx((0 + 0.5 + 1 + 0.5) / 4)
