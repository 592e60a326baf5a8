"""Two evaluations of the same items: changes by hand, intervals by a bootstrap without shortcuts, and refusals."""

import json

import numpy as np
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.hallucination import YES_OR_NO, mcnemar, yes_or_no_counts
from prefmill.bench.evaluators.answers.comparing import compare, read_report
from prefmill.bench.evaluators.answers.evaluation import Evaluation, ItemTable, Measure, Term
from prefmill.bench.evaluators.answers.matching import AnswerCoverage
from prefmill.bench.evaluators.answers.records import InputFile

TRUTHS = [number % 2 == 0 for number in range(80)]


def evaluation(said, settings=None, digest="0", order=None):
    order = list(range(len(said))) if order is None else order
    counts = [
        {**one, "wrong": not one["right"]}
        for one in yes_or_no_counts([said[place] for place in order], [TRUTHS[place] for place in order])
    ]
    items = ItemTable.of(
        [str(place) for place in order],
        [f"image{place // 4}" for place in order],
        [("a", "b")[place // 40] for place in order],
        counts,
        "wrong",
    )
    measures = [Measure(group, "F1", (Term(YES_OR_NO["f1"], (group,)),)) for group in "ab"]
    measures.append(Measure("a", "precision", (Term(YES_OR_NO["precision"], ("a",)),), scale=100))
    inputs = {"questions": InputFile("q", digest), "answers": InputFile("a", repr(said))}
    coverage = AnswerCoverage(80, len(said), len(said))
    return Evaluation("toy", "Toy", "a rule", 1, settings or {}, inputs, coverage, measures, items)


@pytest.fixture
def written(tmp_path):
    def write(name, *arguments, **more):
        path = tmp_path / name
        path.write_text(json.dumps(evaluation(*arguments, **more).report("")))
        return read_report(path, "BEFORE")

    return write


def said_of(seed, share):
    stream = np.random.default_rng(seed)
    return [truth if stream.random() < share else not truth for truth in TRUTHS]


def test_changes_are_those_of_the_same_drawn_images(written):
    old, new = said_of(1, 0.6), said_of(2, 0.8)
    order = np.random.default_rng(0).permutation(80).tolist()
    found = compare(written("old", old), written("new", new, order=order))

    def f1(said, places):
        both = sum(said[place] and TRUTHS[place] for place in places)
        return 2 * both / (sum(said[place] for place in places) + sum(TRUTHS[place] for place in places))

    [row] = [one for one in found["measures"] if (one["group"], one["name"]) == ("a", "F1")]
    assert (row["before"], row["after"]) == pytest.approx((f1(old, range(40)), f1(new, range(40))))
    assert row["difference"] == pytest.approx(row["after"] - row["before"])
    stream, drawn = np.random.default_rng(9), []
    for _ in range(2000):
        places = [4 * image + item for image in stream.integers(20, size=20) if image < 10 for item in range(4)]
        drawn.append(f1(new, places) - f1(old, places))
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.08 * (high - low))


def test_items_that_changed_are_counted_and_tested(written):
    old, new = said_of(1, 0.6), said_of(2, 0.8)
    compared = compare(written("old", old), written("new", new))
    found, changed = compared["items"], compared["changed"]
    was = [said is not truth for said, truth in zip(old, TRUTHS, strict=True)]
    now = [said is not truth for said, truth in zip(new, TRUTHS, strict=True)]
    assert changed["mended"] == [str(place) for place in range(80) if was[place] and not now[place]]
    assert changed["broken"] == [str(place) for place in range(80) if now[place] and not was[place]]
    for name, places in {"a": slice(0, 40), "b": slice(40, 80), "all": slice(None)}.items():
        mended, broken, p = mcnemar(was[places], now[places])
        assert found[name] == {
            "items": len(was[places]),
            "wrong_before": sum(was[places]),
            "wrong_after": sum(now[places]),
            "mended": mended,
            "broken": broken,
            "p": p,
        }


def test_an_evaluation_did_not_change_against_itself(written):
    same = written("old", said_of(1, 0.6))
    found = compare(same, same)
    assert {one["difference"] for one in found["measures"]} == {0}
    assert {one["p"] for one in found["items"].values()} == {1.0}


def test_a_measure_that_is_undefined_has_no_difference(written):
    found = compare(written("old", [False] * 80), written("new", TRUTHS))["measures"]
    [row] = [one for one in found if one["name"] == "precision"]
    assert (row["before"], row["after"], row["difference"]) == (None, 100, None)


def test_other_rules_questions_and_items_are_not_compared(written, tmp_path):
    old, said = written("old", said_of(1, 0.6)), said_of(2, 0.8)
    with pytest.raises(PrefmillError, match="differ in settings"):
        compare(old, written("new", said, settings={"reading": "lenient"}))
    compare(old, written("new", said, settings={"matched by": "order"}))
    with pytest.raises(PrefmillError, match="different files: questions"):
        compare(old, written("new", said, digest="1"))
    fewer = written("new", said, order=list(range(3, 80)))
    with pytest.raises(PrefmillError, match="3 items are in one of the two evaluations alone, 77 in both"):
        compare(old, fewer)
    assert compare(old, fewer, partial=True)["coverage"] == {"items": 77, "in_one_alone": 3}
    (tmp_path / "none.json").write_text('{"id": 1}')
    with pytest.raises(PrefmillError, match="is no report"):
        read_report(tmp_path / "none.json", "BEFORE")
    fields = json.loads((tmp_path / "old").read_text())
    fields["items"]["id"].pop()
    (tmp_path / "none.json").write_text(json.dumps(fields))
    with pytest.raises(PrefmillError, match="columns differ in length"):
        read_report(tmp_path / "none.json", "BEFORE")
