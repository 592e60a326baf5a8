"""The six classes by an example each, and the statistics against numpy's own."""

import numpy as np
import pytest
from prefmill.pipeline.pairs.negatives import CLASSES, EDGES, JUNK, Compared, Tally, length_correlation, negative_class

QUESTION = "What is the colour of the bird on the branch?"
CHOSEN = "The bird on the branch has a bright red breast, dark grey wings and a short yellow beak."
REJECTED = {
    "": "artifact",
    QUESTION: "artifact",
    "сну": "artifact",
    "Red.": "artifact",
    "The bird is red.</s>": "artifact",
    "I'm sorry, as an AI I cannot see images.": "generic",
    "the bird is red and " * 40: "length/repetition",
    " ".join(f"a bird of kind{number} flies" for number in range(40)): "length/repetition",  # 200 words to 17
    CHOSEN.upper(): "duplicate",
    CHOSEN.replace("yellow", "orange"): "near-miss",
    "It is a small blue bird, and its tail is almost black against the sky.": "fluent-different",
}


@pytest.mark.parametrize(("rejected", "expected"), REJECTED.items(), ids=lambda text: text[:12])
def test_the_class_of_a_rejected_answer(rejected, expected):
    found, why = negative_class(Compared(QUESTION, CHOSEN, rejected))
    assert found == expected
    assert why


def test_junk_is_all_but_what_teaches():
    assert set(REJECTED.values()) == set(CLASSES)
    assert set(CLASSES) - JUNK == {"near-miss", "fluent-different"}


def test_a_set_is_counted():
    tally = Tally()
    for number, rejected in enumerate(REJECTED):
        tally.add(Compared(QUESTION, CHOSEN, rejected, float(number), "art" if number < 4 else "sport"))
    tally.add(Compared(QUESTION, "Red.", CHOSEN))
    tally.add_refused("artifact", 2)
    result = tally.result()
    assert result.pairs == len(REJECTED) + 3
    assert result.classes["artifact"] == 7
    # nine of the rejected, two without texts, and the last: seventeen words against one
    assert (result.junk, result.junk_share, result.junk_chosen) == (12, round(12 / 14, 4), 1)
    assert result.topics == {"art": {"pairs": 4, "junk": 4}, "sport": {"pairs": 7, "junk": 5}}
    assert result.margin == {"0%": 0.0, "10%": 1.0, "50%": 5.0, "90%": 9.0, "100%": 10.0}
    assert result.rejected is not None
    assert sum(result.rejected.histogram) == 12
    assert result.rejected.longest == 200
    assert len(result.rejected.histogram) == len(EDGES)


def test_nothing_is_said_of_no_pairs():
    result = Tally().result()
    assert (result.pairs, result.junk_share, result.longer_chosen, result.chosen, result.margin) == (0, *[None] * 4)


def test_the_correlation_of_length_and_choice_is_pearsons():
    random = np.random.default_rng(0)
    lengths = [(int(longer) + 40, int(shorter)) for longer, shorter in random.integers(1, 300, (50, 2))]
    logs = np.log1p(np.array(lengths, dtype=float))
    expected = np.corrcoef(np.concatenate([logs[:, 0], logs[:, 1]]), [1] * 50 + [0] * 50)[0, 1]
    assert length_correlation(lengths) == pytest.approx(expected, abs=1e-4)
    assert length_correlation([(5, 5), (5, 5)]) is None
    assert length_correlation([(9, 1), (9, 1)]) == 1.0
