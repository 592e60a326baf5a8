"""MinHash against the exact Jaccard index of all pairs, on real prompts and made ones."""

import json
import re
from functools import cache
from itertools import pairwise

import pytest
from prefmill.pipeline.writing.near_duplicates import NearDuplicates


@cache
def pairs(text: str) -> set[tuple[str, str]]:
    return set(pairwise(re.findall(r"\w+", text.lower())))


def exact(first: str, second: str) -> float:
    one, other = pairs(first), pairs(second)
    return len(one & other) / len(one | other)


def test_a_repeated_text_is_named_with_how_alike_it_is():
    seen = NearDuplicates(0.5)
    assert seen.repeats("a", "A red kite over the calm sea at dawn") is None
    assert seen.repeats("b", "Two boats in a harbor, seen from above") is None
    assert seen.repeats("c", "a red kite over the calm sea, at DUSK") == ("a", pytest.approx(7 / 9))
    assert seen.repeats("d", "A blue kite under a stormy sky at night") is None


def test_at_one_only_the_same_pairs_repeat():
    seen = NearDuplicates(1.0)
    assert seen.repeats("a", "a red kite over the sea") is None
    assert seen.repeats("b", "a red kite over the lake") is None
    assert seen.repeats("c", "A red kite, over the sea!") == ("a", 1.0)
    assert [seen.repeats(text, text) for text in ("猫", "犬", "!", "?", "猫")] == [None, None, None, None, ("猫", 1.0)]


def test_refusals_are_those_of_comparing_everything(shared):
    """On 600 real prompts: none refused that exact comparison keeps, and almost none kept that it refuses."""
    rows = json.loads((shared / "data" / "refl-prompts.json").read_text())
    texts = [row["text"] for row in rows if len(row["text"].split()) > 4][:600]
    seen, kept = NearDuplicates(0.5), []
    missed = 0
    for text in texts:
        most = max((exact(text, other) for other in kept), default=0.0)
        repeated = seen.repeats(text, text)
        if repeated is not None:
            assert repeated[1] == pytest.approx(exact(text, repeated[0]))
            assert repeated[1] >= 0.5
        else:
            missed += most >= 0.5
            kept.append(text)
    refused = len(texts) - len(kept)
    assert refused > 5
    assert missed <= 0.15 * (refused + missed)
