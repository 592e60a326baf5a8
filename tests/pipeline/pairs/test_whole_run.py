"""Limits over all pairs of a run, against counts by hand."""

import pytest
from prefmill.pipeline.pairs.whole_run import Proposal, Repeats, RunLimits, refused

LONG = "a red bird sits on a thin branch above the still lake in the early morning while two boats pass"


def proposals(*rows):
    return [Proposal(f"pair{number}", *row) for number, row in enumerate(rows)]


def reasons(rows, **limits):
    return {pair: reason for pair, (reason, _) in refused(proposals(*rows), RunLimits(**limits)).items()}


def test_nothing_is_limited_by_default():
    assert not RunLimits().needs_whole_run
    assert not reasons([("p", "t", 1.0)] * 9)
    assert Repeats(RunLimits(), 0.9).verdict("a", LONG, LONG) is None


@pytest.mark.parametrize(("unique", "found"), [("no", [None] * 4), ("same", [None, "b", None, None])])
def test_repeated_texts_are_refused_and_the_first_stays(unique, found):
    repeats = Repeats(RunLimits(unique=unique), 0.7)
    pairs = [("a", LONG, "no"), ("b", LONG.upper(), " no"), ("c", "no", LONG), ("d", LONG + " by", "no")]
    verdicts = [repeats.verdict(*pair) for pair in pairs]
    assert [verdict and pair[0] for verdict, pair in zip(verdicts, pairs, strict=True)] == found
    assert all(verdict is None or verdict == ("repeated", "the texts of a") for verdict in verdicts)


def test_near_duplicates_are_refused_by_their_likeness():
    repeats = Repeats(RunLimits(unique="near"), 0.7)
    assert repeats.verdict("a", LONG, "there is nothing to see here") is None
    reason, detail = repeats.verdict("b", LONG.replace("red", "blue"), "there is nothing to see here") or ("", "")
    assert (reason, detail[-6:]) == ("repeated", "like a")
    assert repeats.verdict("c", "two boats pass a pier", "there is nothing to see here") is None


def test_a_prompt_keeps_its_pairs_of_widest_margin():
    rows = [("p", None, 0.1), ("q", None, 0.1), ("p", None, 0.3), ("p", None, 0.3), ("p", None, None)]
    assert reasons(rows, pairs_per_prompt=1) == dict.fromkeys(("pair0", "pair3", "pair4"), "prompt_full")
    assert reasons(rows, pairs_per_prompt=3) == {"pair4": "prompt_full"}


def test_topics_are_balanced_against_the_rarest_and_pairs_without_one_are_left():
    rows = [("p", "art", 1.0)] * 7 + [("p", "sport", 1.0)] * 2 + [("p", None, 1.0)] * 5
    for ratio, refusals in ((1.0, 5), (1.5, 4), (2.0, 3), (10.0, 0)):
        found = reasons(rows, topic_ratio=ratio)
        assert list(found.values()) == ["topic_full"] * refusals
        assert set(found) <= {f"pair{number}" for number in range(7)}
    # the order of the others does not matter: which stay depends on the ids alone
    named = proposals(*rows)
    assert refused(named[::-1], RunLimits(topic_ratio=1)).keys() == refused(named, RunLimits(topic_ratio=1)).keys()


def test_a_topic_is_counted_after_its_prompts_are():
    rows = [("p", "art", 1.0), ("p", "art", 2.0), ("q", "art", 1.0), ("r", "sport", 1.0), ("s", "sport", 1.0)]
    assert reasons(rows, pairs_per_prompt=1, topic_ratio=1.0) == {"pair0": "prompt_full"}
