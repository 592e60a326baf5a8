"""AMBER against the official loops, on answers of every odd kind; the reading of its files, words and tables."""

import json
import random
from zlib import crc32

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.bench.evaluators.amber.data import read_amber
from prefmill.bench.evaluators.amber.evaluating import Describing, evaluate_amber
from prefmill.bench.evaluators.answers.evaluation import value_of

from .official import score

TYPES = ("hallucination", "attribute-state", "attribute-number", "attribute-action", "relation")
ODD = ("Yes.", "No.", "yes", "no", " No", "No\n", "", "Yes, it is.", "NO", "The answer is no", "Maybe", "n/a", "是")
THINGS = {
    "person": ["man", "woman"],
    "man": ["boy"],
    "tree": ["bush", "leaf"],
    "bush": [],
    "dog": [],
    "cat": ["kitten"],
    "cup": ["glass"],
    "glass": [],
    "sign": [],
    "sky": [],
}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Twelve images to describe and sixty questions with yes or no, in AMBER's form."""
    folder = tmp_path_factory.mktemp("amber")
    stream = random.Random(0)
    rows = []
    for _ in range(12):
        words = stream.choices(list(THINGS), k=6)  # a thing can be there twice
        rows.append({"type": "generative", "truth": words[:4], "hallu": words[4:]})
    for number in range(60):
        kind = TYPES[number % 5]
        truth = "no" if kind == "hallucination" else stream.choice(["yes", "no"])
        rows.append(
            {"type": "relation" if (kind, truth) == ("relation", "no") else f"discriminative-{kind}", "truth": truth}
        )
    write(folder / "annotations.json", [{"id": number, **row} for number, row in enumerate(rows, 1)])
    write(folder / "relation.json", THINGS)
    (folder / "safe_words.txt").write_text("sign\nglass")
    asked = [{"id": n, "image": f"AMBER_{n % 12}.jpg", "query": f"Is it {n}?"} for n in range(1, 73)]
    write(folder / "query" / "query_all.json", asked)
    return folder


def likeness(seed):
    """A symmetric similarity of words by their spelling, above 0.8 for one pair in eight; a word is its own."""

    def similar(one, other):
        pair = "".join(sorted([one, other]))
        return 1.0 if one == other else crc32(f"{seed} {pair}".encode()) / 2**32 * 0.915

    return similar


def answered(folder, seed):
    """A row for every question: descriptions of drawn words, choices mostly right in the exact form."""
    stream = random.Random(seed)
    words = sorted(read_amber(folder).vocabulary)
    rows = []
    for one in json.loads((folder / "annotations.json").read_text()):
        if one["type"] == "generative":
            named = stream.choices(one["truth"] + one["hallu"], k=4) + stream.choices([*words, "table-top", "it"], k=3)
            text = " ".join(stream.sample(named, stream.randrange(8)))
        else:
            right, wrong = ("Yes", "No") if one["truth"] == "yes" else ("No", "Yes")
            text = stream.choices([right, wrong, stream.choice(ODD)], [7, 2, 1])[0]
        rows.append({"id": one["id"], "response": text})
    return rows


def evaluated(folder, path, rows, seed=0, **how):
    similar = likeness(seed)
    describing = Describing(str.split, lambda one, other: similar(one, other) > 0.8, {}, {})
    return evaluate_amber(read_amber(folder), write(path, rows), describing=lambda: describing, **how)


def numbers(found):
    groups = {}
    for one in found.measures:
        groups.setdefault(one.group, {})[one.name] = one.official
    return groups


def held_against_the_loops(folder, path, seed):
    annotations = json.loads((folder / "annotations.json").read_text())
    never = (folder / "safe_words.txt").read_text().split("\n")
    associates = json.loads((folder / "relation.json").read_text())
    rows = answered(folder, seed)
    kept = random.Random(seed).sample(rows, len(rows) * 4 // 5)
    odd = [
        *kept,
        *({**one, "response": "No"} for one in kept[:4]),
        *({"id": n, "response": "No"} for n in (0, -1, 10**6)),
    ]
    for given, used, how in (
        (random.Random(seed).sample(rows, len(rows)), rows, {}),
        (odd, kept, {"partial": True}),
        ([one for one in rows if annotations[one["id"] - 1]["type"] == "generative"], None, {}),
        ([one for one in rows if annotations[one["id"] - 1]["type"] != "generative"], None, {}),
    ):
        theirs = score(used or given, annotations, associates, never, str.split, likeness(seed))
        found = evaluated(folder, path, given, seed, **how)
        ours = numbers(found)
        if both := ours.pop("all", None):
            chair, f1 = theirs["generative"]["CHAIR"], theirs["discriminative"]["F1"]
            assert both == {"AMBER score": pytest.approx((100 - chair + f1) / 2)}
        if "discriminative" not in ours:
            theirs.pop("discriminative")
        assert ours == theirs
    return odd


@pytest.mark.parametrize("seed", range(8))
def test_a_small_set_is_scored_as_the_official_loops_score_it(small, tmp_path, seed):
    odd = held_against_the_loops(small, tmp_path / "answers.json", seed)
    with pytest.raises(
        PrefmillError, match=r"task a: .*15 missing; 4 duplicate; . conflicting; 1 zero; 2 out of range"
    ):
        evaluated(small, tmp_path / "answers.json", odd)


def test_the_official_files_are_scored_as_the_official_loops_score_them(shared, tmp_path):
    folder = shared / "data" / "evals" / "amber"
    if not folder.is_dir():
        pytest.skip("AMBER's files are not here")
    held_against_the_loops(folder, tmp_path / "answers.json", 3)


def test_a_dimension_alone_and_an_id_that_is_none(small, tmp_path):
    rows = answered(small, 2)
    path = tmp_path / "answers.json"
    existence = [one for one in rows if one["id"] > 12 and (one["id"] - 13) % 5 == 0]
    assert {one.group for one in evaluated(small, path, existence, task="de").measures} == {"existence"}
    with pytest.raises(PrefmillError, match=r"task d: .*48 missing"):
        evaluated(small, path, existence)
    with pytest.raises(PrefmillError, match="no id, which 71 of 72 rows have"):
        evaluated(small, path, [*rows[:-1], {"response": "No"}])
    with pytest.raises(PrefmillError, match="1 null"):
        evaluated(small, path, [*rows[:-1], {"id": 72, "response": None}])


def test_answers_without_ids_go_by_order_where_there_are_as_many(small, tmp_path):
    rows = answered(small, 4)
    bare = [{"response": one["response"]} for one in rows]
    path = tmp_path / "answers.json"
    assert numbers(evaluated(small, path, bare)) == numbers(evaluated(small, path, rows))
    assert evaluated(small, path, bare[:12], task="g").settings["matched by"] == "order"
    with pytest.raises(PrefmillError, match=r"71 answers without ids; the tasks have a 72, g 12, d 60"):
        evaluated(small, path, bare[1:])
    with pytest.raises(PrefmillError, match="59 answers without ids to 60 questions"):
        evaluated(small, path, bare[13:], task="d")


def test_other_forms_of_yes_and_no_are_wrong_warned_of_and_read_leniently(small, tmp_path):
    annotations = json.loads((small / "annotations.json").read_text())[12:]
    path, rows = tmp_path / "answers.json", [{"id": one["id"], "response": f"{one['truth']}."} for one in annotations]
    strict = evaluated(small, path, rows)
    assert numbers(strict)["discriminative"] == {"accuracy": 0.0, "precision": 0.0, "recall": 0.0, "F1": 0.0}
    assert "WARNING: 60 of 60 answers (100.0%)" in strict.notes[0]
    assert "60 of them begin with yes or no" in strict.notes[0]
    lenient = evaluated(small, path, rows, reading="lenient")
    assert {value_of(one, lenient.items) for one in lenient.measures} == {100}
    assert {one.official for one in lenient.measures} == {None}
    exact = [{**one, "response": one["response"].removesuffix(".").capitalize()} for one in rows]
    assert numbers(evaluated(small, path, exact))["discriminative"]["accuracy"] == 100.0
    assert evaluated(small, path, exact).notes == []


def test_answers_that_repeat_another_question_are_not_scored(small, tmp_path):
    rows = [{**one, "query": f"Is it {one['id'] + (one['id'] < 20)}?"} for one in answered(small, 1)]
    with pytest.raises(PrefmillError, match="19 foreign"):
        evaluated(small, tmp_path / "answers.json", rows)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("annotations.json", [{"id": 1, "type": "discriminative-relation", "truth": "maybe"}], "item 1: no annotation"),
        ("annotations.json", [{"id": 1, "type": "generative", "truth": ["cow"], "hallu": []}], "lacks the word 'cow'"),
        ("annotations.json", [{"id": 1, "type": "relation", "truth": "no"}] * 2, "an id twice"),
        ("relation.json", ["a"], "holds no words"),
    ],
)
def test_files_of_amber_that_are_none(small, tmp_path, name, content, fault):
    for one in ("annotations.json", "relation.json", "safe_words.txt"):
        (tmp_path / one).write_bytes((small / one).read_bytes())
    write(tmp_path / name, content)
    with pytest.raises(PrefmillError, match=fault):
        read_amber(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(PrefmillError, match=f"has no {name}"):
        read_amber(tmp_path)
