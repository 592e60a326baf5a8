"""What the pair policy refuses, and what it still makes of the rest. The real answers are a published sample."""

import json
import math
import random
from collections import defaultdict
from typing import Any

import pytest
from prefmill.pipeline.pair_policy import JudgedAnswer, PairPolicy, make_pairs
from prefmill.pipeline.pairs import language
from prefmill.pipeline.pairs.faults import clean, fault_of
from prefmill.pipeline.pairs.words import repetition, similarity
from prefmill.pipeline.records import Instruction, Pair, Reject, Response

QUESTION = "What is the colour of the bird on the branch?"
GOOD = [
    "The bird on the branch has a bright red breast and dark grey wings.",
    "It is a small blue bird, and its tail is almost black against the sky.",
    "One can see a green parrot whose beak is a deep orange in the sunlight.",
]
INSTRUCTION = Instruction("i", "image", QUESTION, "field")


def answer(text, score, name):
    return JudgedAnswer(Response(name, "image", "i", name, text), score)


def decide(texts_and_scores, instruction=INSTRUCTION, **limits) -> tuple[Any, dict[str, str]]:
    """Return the pair (or None) and the rejects as {subject: reason}; answers are called a, b, c ..."""
    answers = [answer(text, score, "abcdef"[number]) for number, (text, score) in enumerate(texts_and_scores)]
    outcome = make_pairs(instruction, answers, PairPolicy(**limits))
    pairs = [item for item in outcome if isinstance(item, Pair)]
    assert len(pairs) <= 1
    return (pairs or [None])[0], {item.subject_id: item.reason for item in outcome if isinstance(item, Reject)}


@pytest.fixture(scope="module")
def sample(shared):
    """{prompt: {model: raw answer}} and {prompt: instruction}, as published."""
    folder = shared / "data/pdsdpo-sample"
    answers, picks = defaultdict(dict), {}
    for line in (folder / "responses.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        answers[row["prompt_id"]][row["model"].removeprefix("llava-v1.6-")] = row["raw_text"]
        picks[row["prompt_id"], row["armorm_pick"]] = row["model"].removeprefix("llava-v1.6-")
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
    return answers, {row["id"]: row["instruction"] for row in rows}, picks


JUNK = {
    ("art-2", "mistral-7b"): "echo",
    ("art-3", "mistral-7b"): "echo",
    ("art-4", "vicuna-7b"): "wrong_language",
    ("art-5", "vicuna-13b"): "repetition",
}


def test_the_four_junk_answers_of_the_sample_and_no_others_are_unfit(sample):
    answers, instructions, _ = sample
    faults = {
        (prompt, model): fault[0]
        for prompt, by_model in answers.items()
        for model, text in by_model.items()
        if (fault := fault_of(text, instructions[prompt], PairPolicy()))
    }
    assert faults == JUNK


@pytest.mark.parametrize(("prompt", "model"), JUNK)
def test_junk_that_scores_worst_is_not_the_rejected_side(prompt, model, sample):
    answers, instructions, _ = sample
    instruction = Instruction("i", "image", instructions[prompt], "field")
    others = [name for name in answers[prompt] if name != model]
    # the junk scores worst, so best against worst would have trained on it; of the others the first is best
    scores = {model: 0.01, others[0]: 0.16, others[1]: 0.12}
    judged = [answer(answers[prompt][name], score, name) for name, score in scores.items()]
    outcome = make_pairs(instruction, judged, PairPolicy(length_ratio=None))
    (pair,) = [item for item in outcome if isinstance(item, Pair)]
    assert (pair.chosen_id, pair.rejected_id) == (others[0], others[1])
    assert pair.margin == pytest.approx(0.04)
    assert [(item.subject_id, item.reason) for item in outcome if isinstance(item, Reject)] == [
        (model, JUNK[prompt, model])
    ]


def test_cleaned_answers_of_the_sample_are_the_published_ones(sample, shared):
    answers, instructions, picks = sample
    published = json.loads((shared / "data/pdsdpo-sample/pds_dpo_format.json").read_text(encoding="utf-8"))
    for row in published:
        for side, conversations in (("chosen", "conversations"), ("rejected", "rejected_conversations")):
            raw = answers[row["id"]][picks[row["id"], side]]
            assert clean(raw, instructions[row["id"]]) == row[conversations][1]["value"].strip()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        (QUESTION, "echo"),
        ("  what is  the COLOUR of\nthe bird on the branch?  ", "echo"),
        ("сну", "wrong_language"),
        ("鳥は赤いです。とても美しい。", "wrong_language"),
        ("Der Vogel auf dem Ast ist rot und hat einen langen schwarzen Schwanz.", "wrong_language"),
        ("the bird is red and " * 40, "repetition"),
        ("Red.", "too_short"),
        (" ".join(random.Random(3).choices(" ".join(GOOD).split(), k=601)), "too_long"),
    ],
)
def test_an_unfit_answer_is_rejected_and_the_others_are_paired(text, reason):
    pair, rejects = decide([(GOOD[0], 0.9), (text, 0.1), (GOOD[1], 0.5)])
    assert rejects == {"b": reason}
    assert (pair.chosen_id, pair.rejected_id) == ("a", "c")


def test_of_equal_texts_the_earlier_responders_is_taken_whatever_the_last_bits_say():
    for noise in (0.0, 1e-7, -1e-7):
        pair, _ = decide([(GOOD[0], 0.9), (GOOD[1], 0.2 + noise), (GOOD[0], 0.9 + noise), (GOOD[1], 0.2)])
        assert (pair.chosen_id, pair.rejected_id) == ("a", "d")
        assert pair.margin == pytest.approx(0.7, abs=1e-6)


def test_four_words_are_no_match_for_a_paragraph(sample):
    answers, instructions, _ = sample
    instruction = Instruction("i", "image", instructions["art-2"], "field")
    scores = {"vicuna-13b": 0.16, "vicuna-7b": 0.12}
    judged = [answer(answers["art-2"][name], score, name) for name, score in scores.items()]
    rejects = make_pairs(instruction, judged, PairPolicy())
    found = [(item.subject_id, item.reason) for item in rejects if isinstance(item, Reject)]
    assert found == [
        ("vicuna-7b", "length"),
        ("i", "too_few_answers"),
    ]


@pytest.mark.parametrize("score", [None, math.nan, math.inf, -math.inf])
def test_an_answer_without_a_score_is_not_compared(score):
    pair, rejects = decide([(GOOD[0], score), (GOOD[1], 0.5), (GOOD[2], 0.7)])
    assert rejects == {"a": "unscored"}
    assert (pair.chosen_id, pair.rejected_id) == ("c", "b")


def test_a_short_answer_to_a_question_is_an_answer():
    pair, rejects = decide([("A red robin", 0.3), ("Deep blue", 0.2)])
    assert pair is not None
    assert not rejects


def test_quoting_another_language_is_not_answering_in_it():
    text = GOOD[0] + " The plate below it says „Rotkehlchen auf dem Ast“, which is German for robin."
    assert fault_of(text, QUESTION, PairPolicy()) is None


def test_languages_are_those_of_the_instruction():
    german = Instruction("i", "image", "Welche Farbe hat der Vogel auf dem Ast im Garten?", "field")
    texts = [
        "Der Vogel ist rot und hat schwarze Flügel mit weissen Spitzen.",
        "Er ist blau, und der Schnabel ist gelb.",
    ]
    pair, rejects = decide([(texts[0], 0.9), (texts[1], 0.1), (GOOD[0], 0.5)], german)
    assert rejects == {"c": "wrong_language"}
    assert pair.chosen == texts[0]
    assert not decide([(texts[0], 0.9), (GOOD[0], 0.1)], german, same_language=False)[1]


def test_a_tie_makes_no_pair():
    pair, rejects = decide([(GOOD[0], 0.5), (GOOD[1], 0.5), (GOOD[2], 0.5)])
    assert pair is None
    assert rejects == {"i": "tie"}


def test_the_margin_is_between_best_and_worst_and_its_limit_is_inclusive():
    rows = [(GOOD[0], 0.5), (GOOD[1], 0.25), (GOOD[2], 0.375)]
    pair, rejects = decide(rows, minimum_margin=0.25)
    assert (pair.chosen, pair.rejected, pair.margin) == (GOOD[0], GOOD[1], 0.25)
    assert not rejects
    assert decide(rows, minimum_margin=0.2501) == (None, {"i": "margin"})


def test_a_duplicate_of_the_best_is_passed_over_for_the_next_worst():
    pair, rejects = decide([(GOOD[0], 0.9), (f"  {GOOD[0].upper()} ", 0.1), (GOOD[1], 0.5)])
    assert rejects == {"b": "duplicate"}
    assert (pair.chosen_id, pair.rejected_id) == ("a", "c")


def test_near_duplicates_are_told_by_their_three_word_sequences():
    longer = " ".join([*GOOD, "The leaves behind it are out of focus and the light comes from the left side."])
    almost = longer.replace("left side", "right side")
    pair, rejects = decide([(longer, 0.9), (almost, 0.1), (GOOD[1], 0.5)])
    assert rejects == {"b": "near_duplicate"}
    assert pair.rejected_id == "c"
    pair, rejects = decide([(longer, 0.9), (almost, 0.1), (GOOD[1], 0.5)], near_duplicate=1.0)
    assert not rejects
    assert pair.rejected_id == "b"


def test_all_answers_the_same_leave_too_few():
    pair, rejects = decide([(GOOD[0], 0.9), (GOOD[0], 0.1)])
    assert pair is None
    assert rejects == {"b": "duplicate", "i": "too_few_answers"}
    assert decide([(GOOD[0], 0.9)]) == (None, {"i": "too_few_answers"})
    assert decide([]) == (None, {"i": "too_few_answers"})


def test_the_texts_of_a_pair_are_the_cleaned_ones_and_its_ids_lead_to_the_raw_ones():
    pair, _ = decide([(f"{QUESTION}\n\n{GOOD[0]}\n", 0.9), (GOOD[1], 0.1)])
    assert (pair.chosen, pair.rejected, pair.instruction, pair.image_id) == (GOOD[0], GOOD[1], QUESTION, "image")
    assert (pair.chosen_id, pair.rejected_id) == ("a", "b")


def test_the_echo_is_removed_as_text_not_as_a_pattern():
    question = "Is this (a+b)* or [x]? $5.00"
    assert clean(f"{question} It is both.", question) == "It is both."
    assert clean("Is this ab or x? It is.", question) == "Is this ab or x? It is."
    assert clean("  unchanged  ", "") == "unchanged"


def test_measures_against_counts_by_hand():
    # 9 words, 6 sequences of 4: abcd bcda cdab dabc abcd bcdx -> one of six was there before
    assert repetition(list("abcdabcdx")) == pytest.approx(1 / 6)
    assert repetition(list("abcdabc")) == 0.0  # too short to tell
    # 3-word sequences {abc, bcd} and {abc, bce}: one of three shared
    assert similarity("a b c d", "a b c e") == pytest.approx(1 / 3)
    assert similarity("a b", "a b") == 1.0
    assert similarity("a", "b") == 0.0


def test_an_instructions_language_is_told_once_for_all_its_answers(monkeypatch):
    language._language_asked.cache_clear()
    asked = []
    real = language._identifier()

    class Counting:
        def classify(self, text):
            asked.append(text)
            return real.classify(text)

    monkeypatch.setattr(language, "_identifier", Counting)
    for text in GOOD:
        assert fault_of(text, QUESTION, PairPolicy()) is None
    assert asked.count(QUESTION) == 1
    assert all(asked.count(text) == 1 for text in GOOD)
