"""Which answer is of which question, and the counts of those that are of none."""

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.bench.evaluators.answers.matching import AnswerCoverage, answers_of, match_answers
from prefmill.bench.evaluators.answers.records import FileRecord, InputFile, RecordFile

IDS = [1, 2, 5]


def given(*rows):
    records = tuple(FileRecord(f"a:{number}", fields) for number, fields in enumerate(rows, 1))
    return answers_of(RecordFile(InputFile("a", "0"), records))


def texts(matched):
    return [one and one.text for one in matched.answers]


def test_ids_in_any_spelling_and_order():
    rows = given({"id": "5", "response": "c"}, {"question_id": 1, "text": "a"}, {"id": 2.0, "answer": "b"})
    found = match_answers(rows, IDS)
    assert (texts(found), found.by, found.coverage) == (["a", "b", "c"], "id", AnswerCoverage(3, 3, 3))


def test_what_does_not_fit_is_counted_by_kind():
    rows = given(
        {"id": 0, "answer": "zero"},
        {"id": 1, "answer": "a"},
        {"id": 1, "answer": "a"},
        {"id": 1, "answer": "other"},
        {"id": 2, "answer": None},
        {"id": 3, "answer": "between"},
        {"id": 6, "answer": "above"},
        {"id": -4, "answer": "below"},
        {"id": "five", "answer": "word"},
        {"id": 5, "answer": " "},
    )
    found = match_answers(rows, IDS, partial=True)
    assert texts(found) == ["a", None, " "]
    assert found.coverage == AnswerCoverage(
        3, 2, 10, missing=1, null=1, duplicate=2, conflicting=1, zero=1, out_of_range=2, unknown=2, empty=1
    )
    with pytest.raises(
        PrefmillError, match=r"1 missing; 1 null; .* \(no answer to question 2; a:1 has id 0\)"
    ) as error:
        match_answers(rows, IDS, what="random")
    assert "--allow-partial" in error.value.fix


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("zero", {"id": 0, "answer": "x"}),
        ("out of range", {"id": 9, "answer": "x"}),
        ("unknown", {"id": 4, "answer": "x"}),
        ("duplicate", {"id": 5, "answer": "c"}),
    ],
)
def test_one_row_too_many_is_enough_to_stop(kind, row):
    rows = [{"id": name, "answer": "c"} for name in IDS]
    with pytest.raises(PrefmillError, match=f"1 {kind}"):
        match_answers(given(*rows, row), IDS)


def test_zero_is_an_id_where_a_question_has_it():
    assert texts(match_answers(given({"id": 0, "answer": "a"}), [0])) == ["a"]


def test_texts_can_be_ids():
    assert texts(match_answers(given({"id": "x", "answer": "a"}, {"id": "y", "answer": "b"}), ["y", "x"])) == ["b", "a"]


def test_order_where_no_row_has_an_id():
    rows = [{"answer": "a"}, {"answer": ""}, {"answer": None}]
    found = match_answers(given(*rows), IDS, partial=True)
    assert (texts(found), found.by) == (["a", "", None], "order")
    assert found.coverage == AnswerCoverage(3, 2, 3, missing=1, null=1, empty=1)
    for short in (rows[:2], [*rows, *rows]):
        with pytest.raises(PrefmillError, match="answers without ids to 3 questions"):
            match_answers(given(*short), IDS, partial=True)


def test_ids_on_some_rows_alone_are_no_ids():
    rows = given({"id": 1, "answer": "a"}, {"answer": "b"}, {"id": 5, "answer": "c"})
    with pytest.raises(PrefmillError, match=r"a:2: no id, which 2 of 3 rows have"):
        match_answers(rows, IDS)
    assert texts(match_answers(rows, IDS, by="order")) == ["a", "b", "c"]
    with pytest.raises(PrefmillError, match="a:2: no id"):
        match_answers(rows, IDS, by="id", partial=True)


def test_nothing_that_fits_is_no_evaluation():
    with pytest.raises(PrefmillError, match="none belongs to a question"):
        match_answers(given({"id": 9, "answer": "a"}), IDS, partial=True)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"id": 1}, "no answer: it holds id"),
        ({"id": 1, "answer": ["a"]}, "'answer' is a list, not text"),
        ({"id": 1, "answer": True}, "'answer' is a bool, not text"),
        ({"id": True, "answer": "a"}, "'True' is no id"),
        ({"id": [1], "answer": "a"}, "is no id"),
        ({"id": 1.5, "answer": "a"}, "'1.5' is no id"),
    ],
)
def test_rows_that_are_no_answers(row, fault):
    with pytest.raises(PrefmillError, match=fault):
        given(row)
