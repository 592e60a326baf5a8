"""POPE against the official loops, on answers of every odd kind, and on ids that do not fit."""

import json
import random
from typing import Any

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.hallucination import YES_OR_NO
from prefmill.bench.evaluators.answers.evaluation import value_of
from prefmill.bench.evaluators.pope.evaluating import ALL, MEAN, evaluate_pope
from prefmill.bench.evaluators.pope.questions import CATEGORIES, read_questions
from prefmill.bench.evaluators.pope.rule import LMMS_EVAL, OFFICIAL, RULES

from .official import by_order, lmms

ODD = (
    *("Yes", "No", "yes", "no", "Yes.", "No.", " No", "No ", "NO", "no\n", "nope", "not", "Not"),
    *("No, there is no dog.", "Yes, there is. No doubt.", "There is not, no.", "No,there is", "no,no", "yes\u2028no"),
    *(
        "I do not know",
        "The image shows a dog. There is no cat.",
        ".",
        "..No",
        "",
        " ",
        "No\tdog",
        "是",
        "no-one",
        "a, b",
    ),
    *("A dog, not a cat", "Yes , no", "It's not. Yes.", "3.5 dogs, no", "no.", "YES", "yEs ", "Indeed, there is a dog"),
)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Three question files of 40 questions about ten images, the answer yes to half of them."""
    folder = tmp_path_factory.mktemp("pope")
    for number, category in enumerate(CATEGORIES):
        things = random.Random(number).sample([f"thing{name}" for name in range(90)], 40)
        rows = [
            {
                "question_id": place + 1,
                "image": f"COCO_val2014_{place // 4:012}.jpg",
                "text": f"Is there a {thing} in the image?",
                "label": ("yes", "no")[place % 2],
            }
            for place, thing in enumerate(things)
        ]
        write(folder / f"coco_pope_{category}.json", rows)
    return folder


def answered(folder, seed):
    """Of every category, rows of the official file with an answer each: mostly right, in all forms."""
    stream = random.Random(seed)
    found = {}
    for category in CATEGORIES:
        rows = [json.loads(line) for line in (folder / f"coco_pope_{category}.json").read_text().splitlines()]
        for row in rows:
            right = {"yes": ("Yes", "yes, there is one."), "no": ("No", "There is no such thing")}[row["label"]]
            row["said"] = stream.choice(right if stream.random() < 0.7 else ODD)
        found[category] = rows
    return found


def evaluated(folder, tmp_path, by_category, rule=OFFICIAL, **how):
    files = [(write(tmp_path / f"a_{category}.jsonl", rows), None) for category, rows in by_category.items()]
    return evaluate_pope(read_questions([folder]), files, RULES[rule], **how)


def numbers(evaluation, group):
    own = [one for one in evaluation.measures if one.group == group]
    return {one.name: value_of(one, evaluation.items) if one.official is None else one.official for one in own}


def held_against_the_loops(folder, tmp_path, seed):
    rows = answered(folder, seed)
    by_id = {
        name: [{"question_id": one["question_id"], "text": one["said"]} for one in each] for name, each in rows.items()
    }
    shuffled = {name: random.Random(seed).sample(each, len(each)) for name, each in by_id.items()}
    ordered = {name: [{"answer": one["said"]} for one in each] for name, each in rows.items()}
    kept = {name: random.Random(seed).sample(each, len(each) * 3 // 4) for name, each in rows.items()}
    odd = {
        name: [
            *({"question_id": str(one["question_id"]), "answer": one["said"]} for one in each),
            *({"question_id": one["question_id"], "answer": "No"} for one in each[:3]),
            *({"question_id": number, "answer": "No"} for number in (0, -1, 10**9, "x")),
        ]
        for name, each in kept.items()
    }
    cases: list[tuple[Any, Any, dict[str, Any]]] = [
        (shuffled, rows, {}),
        (ordered, rows, {}),
        (by_id, rows, {"by": "order"}),
        (odd, kept, {"partial": True}),
    ]
    for given, used, how in cases:
        found = evaluated(folder, tmp_path, given, **how)
        theirs = {}
        for category, each in used.items():
            counts, theirs[category] = by_order([one["said"] for one in each], [one["label"] for one in each])
            assert found.counts[category] == {"questions": len(each), **counts}
            assert numbers(found, category) == pytest.approx(theirs[category], abs=1e-12)
        means = {name: sum(one[name] for one in theirs.values()) / 3 for name in theirs["random"]}
        assert numbers(found, MEAN) == pytest.approx(means, abs=1e-12)
    found = evaluated(folder, tmp_path, shuffled, LMMS_EVAL)
    every = [one for each in rows.values() for one in each]
    for group, used in {**rows, ALL: every}.items():
        theirs = lmms([one["said"] for one in used], [one["label"] for one in used])
        assert {name: numbers(found, group)[name] for name in theirs} == pytest.approx(theirs, abs=1e-12)
    return odd


@pytest.mark.parametrize("seed", range(4))
def test_a_small_set_is_scored_as_the_official_loops_score_it(small, tmp_path, seed):
    odd = held_against_the_loops(small, tmp_path, seed)
    coverage = evaluated(small, tmp_path, odd, partial=True).coverage
    conflicting = sum(one["answer"] != "No" for each in odd.values() for one in each[:3])
    assert (coverage.questions, coverage.answered, coverage.missing) == (120, 90, 30)
    assert (coverage.duplicate, coverage.conflicting) == (9, conflicting)
    assert (coverage.zero, coverage.out_of_range, coverage.unknown) == (3, 6, 3)
    with pytest.raises(PrefmillError, match=r"random: .*10 missing; 3 duplicate.*no answer to question"):
        evaluated(small, tmp_path, odd)


def test_the_official_files_are_scored_as_the_official_loops_score_them(shared, tmp_path):
    folder = shared / "data" / "evals" / "pope"
    if not folder.is_dir():
        pytest.skip("POPE's question files are not here")
    held_against_the_loops(folder, tmp_path, 7)


def test_published_counts_give_the_published_numbers():
    """LLaVA's issue 626 prints the counts and numbers of a run on the 2,910 random questions."""
    tp, fp, tn, fn = 1183, 31, 1379, 317
    sums = {"items": 2910, "right": tp + tn, "true": tp + fn, "said": tp + fp, "both": tp}
    found = {name: share.of(sums) for name, share in YES_OR_NO.items()}
    assert found["accuracy"] == pytest.approx(0.8804123711340206, abs=1e-15)
    assert found["precision"] == pytest.approx(0.9744645799011532, abs=1e-15)
    assert found["recall"] == pytest.approx(0.7886666666666666, abs=1e-15)
    assert found["f1"] == pytest.approx(0.8717759764185703, abs=1e-15)


def test_nothing_but_no_has_no_precision(small, tmp_path):
    rows = {name: [{"answer": "No"}] * 40 for name in CATEGORIES}
    found = evaluated(small, tmp_path, rows)
    assert numbers(found, "popular") == {"accuracy": 0.5, "precision": None, "recall": 0, "F1": 0, "yes ratio": 0}
    assert numbers(found, MEAN)["precision"] is None
    assert "popular: no answer says yes, so there is no precision, and F1 is 0" in found.notes
    assert numbers(evaluated(small, tmp_path, rows, LMMS_EVAL), ALL)["precision"] == 0


def test_one_category_has_no_mean_of_three(small, tmp_path):
    found = evaluated(small, tmp_path, {"random": [{"answer": "perhaps"}] * 40})
    assert {one.group for one in found.measures} == {"random"}
    assert found.notes == [
        "no answers to the popular and adversarial questions: there is no mean of three",
        "40 answers hold neither yes nor no, which the rule reads as yes",
    ]


def test_a_category_in_the_rows_and_one_in_the_option(small, tmp_path):
    rows = answered(small, 3)
    one = [
        {"question_id": each["question_id"], "category": name, "answer": each["said"]}
        for name, own in rows.items()
        for each in own
    ]
    everything = write(tmp_path / "all.jsonl", one)
    found = evaluate_pope(read_questions([small]), [(everything, None)], RULES[OFFICIAL])
    apart = evaluated(small, tmp_path, {name: [{"answer": each["said"]} for each in own] for name, own in rows.items()})
    assert found.counts == apart.counts
    for row in one:
        row.pop("category")
    with pytest.raises(PrefmillError, match=r"all.jsonl:1: the category is not told\n.*CATEGORY="):
        evaluate_pope(read_questions([small]), [(write(everything, one), None)], RULES[OFFICIAL])


def test_llava_questions_take_their_labels_from_the_others(small, tmp_path):
    """One file with categories and ids of its own; its random questions may be fewer, as in the older version."""
    rows = answered(small, 5)
    rows["random"] = rows["random"][:30]
    every = [row for each in ("adversarial", "random", "popular") for row in rows[each]]
    asked = [
        {
            "question_id": number,
            "image": one["image"],
            "text": f"{one['text']}\nAnswer the question using a single word or phrase.",
            "category": next(name for name, each in rows.items() if one in each),
        }
        for number, one in enumerate(every)
    ]
    llava = write(tmp_path / "llava_pope_test.jsonl", asked)
    said = [
        {"question_id": each["question_id"], "prompt": each["text"], "text": one["said"]}
        for each, one in zip(asked, every, strict=True)
    ]
    random.Random(1).shuffle(said)
    answers = write(tmp_path / "answers.jsonl", said)
    found = evaluate_pope(read_questions([small, llava]), [(answers, None)], RULES[OFFICIAL])
    for category, each in rows.items():
        counts, _ = by_order([one["said"] for one in each], [one["label"] for one in each])
        assert found.counts[category] == {"questions": len(each), **counts}
    asked[0]["text"] = "Is there a cat in the image?"
    with pytest.raises(PrefmillError, match="no label for this adversarial question"):
        read_questions([small, write(llava, asked)])


def test_answers_to_another_version_of_the_questions_are_not_scored(small, tmp_path):
    """Two versions number the same questions otherwise: what a row repeats of its question gives it away."""
    rows = [
        {"question_id": one["question_id"] % 40 + 1, "question": one["text"], "answer": one["said"]}
        for one in answered(small, 1)["random"]
    ]
    with pytest.raises(PrefmillError, match="40 foreign"):
        evaluated(small, tmp_path, {"random": rows})
    images = [
        {"question_id": one["question_id"], "image": "val2014/COCO_val2014_000000000001.jpg", "answer": one["said"]}
        for one in answered(small, 1)["random"]
    ]
    found = evaluated(small, tmp_path, {"random": images}, partial=True).coverage
    assert (found.answered, found.foreign) == (4, 36)


def test_a_question_is_no_answer(small, tmp_path):
    """Rows of the question files: with an answer beside the question's text, and without one."""
    rows = answered(small, 2)["random"]
    merged = [{**one, "response": one["said"]} for one in rows]
    for one in merged:
        one.pop("said")
    counts, _ = by_order([one["said"] for one in rows], [one["label"] for one in rows])
    assert evaluated(small, tmp_path, {"random": merged}).counts["random"] == {"questions": 40, **counts}
    with pytest.raises(PrefmillError, match=r"none belongs to a question \(0 of 40 .*40 foreign"):
        evaluated(
            small, tmp_path, {"random": [{"question_id": one["question_id"], "text": one["text"]} for one in rows]}
        )


def test_ids_of_the_other_version_of_the_random_file_are_not_scored(tmp_path):
    """2,910 or 3,000 questions, under the same ids others: without texts in the rows only the ids tell."""
    files = {}
    for count in (2910, 3000):
        rows = [
            {"question_id": number, "image": "a.jpg", "text": f"Is there a {number}?", "label": "no"}
            for number in range(1, count + 1)
        ]
        (tmp_path / str(count)).mkdir()
        files[count] = write(tmp_path / str(count) / "coco_pope_random.json", rows)
    for asked, answered in ((2910, 3000), (3000, 2910)):
        rows = [{"question_id": number, "answer": "no"} for number in range(1, answered + 1)]
        with pytest.raises(PrefmillError, match=f"the answers are to the random file of {answered:,} questions"):
            evaluated(files[asked], tmp_path, {"random": rows}, partial=True)
        rows = [{"question_id": number, "answer": "no"} for number in range(2, 2912)]
        assert evaluated(files[asked], tmp_path, {"random": rows}, partial=True).coverage.answered


def test_order_needs_as_many_answers_as_questions(small, tmp_path):
    rows = {"random": [{"answer": "No"}] * 39}
    with pytest.raises(PrefmillError, match="39 answers without ids to 40 questions"):
        evaluated(small, tmp_path, rows, partial=True)
    turned = [{"question_id": 41 - number, "answer": "No"} for number in range(1, 41)]
    assert (
        "random: by order, against the ids of 40 answers"
        in evaluated(small, tmp_path, {"random": turned}, by="order").notes
    )


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"label": "maybe"}, "'maybe' is neither yes nor no"),
        ({"image": None}, "no question_id, image or text"),
        ({"question_id": 2}, "id 2 occurs twice"),
    ],
)
def test_questions_that_are_none(small, tmp_path, row, fault):
    rows = [json.loads(line) for line in (small / "coco_pope_random.json").read_text().splitlines()]
    with pytest.raises(PrefmillError, match=fault):
        read_questions([write(tmp_path / "coco_pope_random.json", [{**rows[0], **row}, *rows[1:]])])


def test_missing_question_files_are_named(tmp_path):
    with pytest.raises(PrefmillError, match=r"none: |none does not exist"):
        read_questions([tmp_path / "none"])
    with pytest.raises(PrefmillError, match="holds no question files"):
        read_questions([tmp_path])
