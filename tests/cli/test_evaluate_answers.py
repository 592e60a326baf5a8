"""`prefmill eval pope`, `amber` and `compare` from files: exit codes, reports and what is printed."""

import gzip
import json

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.cli.main import app
from typer.testing import CliRunner

THINGS = ("dog", "cat", "cup", "car")


def call(*arguments):
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def pope(tmp_path_factory):
    """Three categories of eight questions about two images, and answers that are right but for the first."""
    folder = tmp_path_factory.mktemp("pope")
    for category in ("random", "popular", "adversarial"):
        rows = [
            {
                "question_id": number,
                "image": f"COCO_{number // 5}.jpg",
                "text": f"Is there a {THINGS[number % 4]} in the image?",
                "label": "yes" if number > 4 else "no",
            }
            for number in range(1, 9)
        ]
        (folder / f"coco_pope_{category}.json").write_text(lines(rows))
        said = [{"question_id": one["question_id"], "text": one["label"]} for one in rows]
        (folder / f"said_{category}.jsonl").write_text(lines([{**said[0], "text": "Yes, a dog."}, *said[1:]]))
    return folder


def options(folder):
    return [
        part
        for name in ("random", "popular", "adversarial")
        for part in ("--answers", f"{name}={folder}/said_{name}.jsonl")
    ] + ["--questions", folder]


def test_pope_prints_its_measures_together_and_writes_them(pope, tmp_path):
    result = call("pope", *options(pope), "--to", tmp_path / "pope.json")
    assert result.exit_code == 0, result.output
    assert "mean of three  0.875" in result.output
    assert "popular: questions 8, TP 4, FP 1, TN 3, FN 0" in result.output
    assert "coverage: 24 of 24 questions answered, by 24 rows" in result.output
    report = json.loads((tmp_path / "pope.json").read_text())
    assert (report["evaluation"], report["rule_version"], report["settings"]["rule"]) == ("pope", 1, "official")
    assert len({one["sha256"] for one in report["inputs"].values()}) == 2  # three files are the same, and three answers
    assert {"date", "command", "hardware", "versions", "coverage", "rule"} <= report.keys()
    [f1] = [one for one in report["measures"] if (one["group"], one["name"]) == ("random", "F1")]
    assert (f1["value"], f1["over"], f1["of"]) == (8 / 9, 8, 9)


def test_missing_answers_stop_unless_that_is_allowed(pope, tmp_path):
    rows = (pope / "said_random.jsonl").read_text().splitlines(keepends=True)
    packed = tmp_path / "random.jsonl.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + "".join(rows[:5] + rows[4:5]).replace("\n", "\r\n").encode()))
    arguments = ("pope", "--answers", packed, "--questions", pope)
    result = call(*arguments)
    assert isinstance(result.exception, PrefmillError)
    assert "5 of 8 questions answered, by 6 rows; 3 missing; 1 duplicate" in str(result.exception)
    result = call(*arguments, "--allow-partial")
    assert result.exit_code == 0, result.output
    assert "coverage: 5 of 8 questions answered, by 6 rows; 3 missing; 1 duplicate" in result.output


def test_malformed_answers_are_named_with_their_line(pope, tmp_path):
    (tmp_path / "random.jsonl").write_text((pope / "said_random.jsonl").read_text() + '{"question_id": 9, "te')
    result = call("pope", "--answers", tmp_path / "random.jsonl", "--questions", pope)
    assert "random.jsonl:9: not valid JSON" in str(result.exception)


@pytest.mark.parametrize("arguments", [("--compat", "other"), ("--match", "name")])
def test_options_that_are_not_known(pope, arguments):
    assert "is not known" in str(call("pope", *options(pope), *arguments).exception)


def test_two_evaluations_are_compared(pope, tmp_path):
    call("pope", *options(pope), "--to", tmp_path / "before.json")
    better = tmp_path / "random.jsonl"
    better.write_text((pope / "said_random.jsonl").read_text().replace("Yes, a dog.", "No, no dog."))
    after = ["--answers", better, *options(pope)[2:]]
    call("pope", *after, "--to", tmp_path / "after.json")
    result = call("compare", tmp_path / "before.json", tmp_path / "after.json", "--to", tmp_path / "change.json")
    assert result.exit_code == 0, result.output
    assert "all: 3 -> 2 wrong of 24; 1 mended, 0 broken, McNemar's exact p 1" in result.output
    found = json.loads((tmp_path / "change.json").read_text())
    assert found["items"]["random"]["mended"] == 1
    assert json.loads(call("compare", tmp_path / "before.json", tmp_path / "after.json", "--json").stdout)["coverage"]


@pytest.fixture(scope="module")
def amber(tmp_path_factory):
    """Two images to describe and four questions, with answers."""
    folder = tmp_path_factory.mktemp("amber")
    rows = [{"type": "generative", "truth": ["dog", "sky"], "hallu": ["cat"]}] * 2
    kinds = ("hallucination", "attribute-state", "attribute-number", "attribute-action", "relation")
    rows += [{"type": f"discriminative-{kind}", "truth": "no"} for kind in kinds]
    (folder / "annotations.json").write_text(json.dumps([{"id": n, **row} for n, row in enumerate(rows, 1)]))
    (folder / "relation.json").write_text('{"dog": ["puppy"], "sky": [], "cat": []}')
    (folder / "safe_words.txt").write_text("sign")
    said = ["Two dogs and a cat.", "The sky above a puppy.", "No", "No", "No.", "Yes", "No"]
    answers = [{"id": number, "response": text} for number, text in enumerate(said, 1)]
    (folder / "answers.json").write_text(json.dumps(answers))
    return folder


def test_amber_lightly(amber, tmp_path):
    arguments = ("amber", "--answers", amber / "answers.json", "--data", amber, "--light")
    result = call(*arguments, "--to", tmp_path / "amber.json")
    assert result.exit_code == 0, result.output
    assert "WARNING: 1 of 5 answers (20.0%) are not exactly Yes or No, as 'No.'" in result.output
    assert "light: no part-of-speech tags and lemmas; not comparable with official numbers" in result.output
    measures = {
        (one["group"], one["name"]): one for one in json.loads((tmp_path / "amber.json").read_text())["measures"]
    }
    assert measures["generative", "CHAIR"]["value"] == 25  # dog, cat; sky, puppy
    assert "official" not in measures["generative", "CHAIR"]
    assert measures["generative", "Cover"]["value"] == 75
    assert measures["discriminative", "accuracy"]["official"] == 60.0
    assert measures["all", "AMBER score"]["value"] == pytest.approx((100 - 25 + 100 * 6 / 8) / 2)
    assert json.loads(call(*arguments, "--reading", "lenient", "--json").stdout)["settings"]["yes or no"] == "lenient"


def test_amber_takes_no_other_model_in_silence(amber, tmp_path):
    arguments = ("amber", "--answers", amber / "answers.json", "--data", amber)
    assert "need a table of near-synonyms" in str(call(*arguments).exception)
    table = tmp_path / "table.tsv"
    words = ("cat\tdog", "cat\tpuppy", "cat\tsky", "dog\tpuppy", "dog\tsky", "puppy\tsky")
    table.write_text("# other 1.0\n" + "".join(f"{pair}\t{0.1 + 0.9 * (pair == words[1])}\n" for pair in words))
    result = call(*arguments, "--light", "--similarity", table)
    assert "near-synonyms are those of other 1.0; the official numbers are of en_core_web_lg" in result.output
    assert "CHAIR" in result.output
    assert "invented 0, with invented 0" in result.output  # the cat is a puppy now
    table.write_text(table.read_text().replace(words[0], "cat\tcow"))
    assert "lacks the pair 'cat' and 'dog'" in str(call(*arguments, "--light", "--similarity", table).exception)
    table.write_text("cat\tdog\tnan\n")
    assert "table.tsv:1: 'nan' is no similarity" in str(call(*arguments, "--light", "--similarity", table).exception)
