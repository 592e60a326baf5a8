"""What the viewer answers, against the rows that were written and counts made by plain Python."""

import csv
import io
import json
from urllib.parse import urlencode

import pytest
from prefmill.pipeline.records import content_id
from prefmill.pipeline.viewing.verdicts import VerdictFile

PAIRED = [n for n in range(12) if n % 5]


def numbers(client, **filters):
    """The prompts (from 0) that a filter leaves."""
    found = client.get(f"/api/entries?{urlencode({**filters, 'count': 100})}").json()
    assert found["total"] == len(found["entries"])
    return [entry["number"] - 1 for entry in found["entries"]]


def chosen_by(n):
    return "a" if n % 4 else "b"


@pytest.fixture
def client(run, made):
    with made.viewed(run) as client:
        yield client


def test_the_list_and_its_pages(client):
    found = client.get("/api/entries?start=4&count=3").json()
    assert found["total"] == 12
    assert [entry["number"] for entry in found["entries"]] == [5, 6, 7]
    entry = found["entries"][2]
    assert entry == {
        **{"id": content_id("prompt", 6), "number": 7, "text": "prompt 6 about a BOAT", "state": "paired"},
        **{"image": content_id("image", 6, 3.0), "pairs": 1, "margin": 0.6},
    }


def test_an_entry_has_everything_that_was_made_of_a_prompt(client, made):
    entry = client.get(f"/api/entries/{content_id('prompt', 7)}").json()
    assert entry["prompt"]["topic"] == "toys"
    assert [image["guidance"] for image in entry["images"]] == [3.0, 5.0]
    assert [image["scores"][0]["value"] for image in entry["images"]] == pytest.approx([7.3, 7.5])
    assert [bool(image["picked"]) for image in entry["images"]] == [False, True]
    assert entry["images"][0]["seed"] == str(2**62 + 7)  # JavaScript's numbers would round it
    [question] = entry["questions"]
    assert question["text"] == "what is 7?"
    assert [(one["responder"], one["fate"], one["scores"][0]["value"]) for one in question["answers"]] == [
        *(("a", "chosen", pytest.approx(1.2)), ("b", "rejected", 0.5))
    ]
    assert question["answers"][1]["scores"][0]["attributes"] == {"honesty": 0.25}
    assert question["pairs"][0]["margin"] == 0.7
    evil = client.get(f"/api/entries/{content_id('prompt', 3)}")
    assert evil.json()["prompt"]["text"] == made.EVIL
    assert evil.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, range(12)),
        ({"state": "paired"}, PAIRED),
        ({"state": "judged"}, [0, 5, 10]),
        ({"guidance": "3"}, [n for n in range(12) if n % 2 == 0]),
        ({"responder": "b"}, PAIRED),
        ({"responder": "b", "role": "chosen"}, [n for n in PAIRED if chosen_by(n) == "b"]),
        ({"responder": "a", "role": "rejected"}, [n for n in PAIRED if chosen_by(n) == "b"]),
        ({"responder": "nobody"}, []),
        ({"margin_from": "0.6"}, [n for n in PAIRED if n >= 6]),
        ({"margin_from": "0.3", "margin_to": "0.7", "responder": "b", "role": "chosen"}, [4]),
        ({"reason": "pairs:too_few_answers"}, [0, 5, 10]),
        ({"reason": "pairs:other"}, []),
        ({"q": "boat"}, [0, 6, 9]),
        ({"q": "B SAYS 1"}, [1, 10, 11]),
        ({"q": "what is 4?"}, [4]),
        ({"q": "<script>"}, [3]),
        ({"q": "kite", "guidance": "5", "state": "paired"}, [1, 7, 11]),
        ({"order": "widest", "margin_from": "0.8"}, [11, 9, 8]),
        ({"order": "closest", "margin_to": "0.3"}, [1, 2, 3]),
    ],
)
def test_filters_and_search(client, filters, expected):
    assert numbers(client, **filters) == list(expected)


@pytest.mark.parametrize(
    "query", ["state=gone", "margin_from=x", "margin_to=nan", "role=both", "order=1", "verdict=so"]
)
def test_a_filter_that_is_none_is_named(client, query):
    answer = client.get(f"/api/entries?{query}")
    assert answer.status_code == 422
    assert query.partition("=")[2] in answer.json()["error"]


def test_rejects_by_reason_lead_to_their_prompts(client, made):
    found = client.get("/api/rejects?stage=pairs&reason=too_few_answers&start=1").json()
    assert found["total"] == 3
    assert [row["entry"]["number"] for row in found["rejects"]] == [6, 11]
    assert found["rejects"][0]["detail"] == made.EVIL
    assert client.get("/api/rejects?reason=other").json()["total"] == 0
    entry = client.get(f"/api/entries/{content_id('prompt', 5)}").json()
    assert entry["questions"][0]["fate"] == "too_few_answers"


def test_the_run_at_a_glance(client):
    told = client.get("/api/overview").json()
    assert (told["prompts"], told["images"], told["answers"], told["pairs"]) == (12, 24, 24, 9)
    facets = told["facets"]
    assert facets["guidance"] == [{"value": 3.0, "count": 6}, {"value": 5.0, "count": 6}]
    assert facets["responders"] == [
        {"value": "a", "chosen": 7, "rejected": 2},
        {"value": "b", "chosen": 2, "rejected": 7},
    ]
    assert facets["rejects"] == [{"stage": "pairs", "reason": "too_few_answers", "count": 3}]
    assert sum(facets["margins"]["bars"]) == 9
    assert (facets["margins"]["low"], facets["margins"]["high"]) == (pytest.approx(0.1), pytest.approx(1.1))
    assert next(stage["name"] for stage in told["stages"]) == "prompts"
    assert told["problems"] == []
    assert told["writable"] is False


def test_a_run_half_imported_shows_what_is_there(tmp_path, made):
    run = made.run(tmp_path / "run", range(2), complete=False)
    (run.folder / "pairs" / "_manifest.json").unlink()
    (run.folder / "candidates" / "_manifest.json").write_text('{"complete": "yes"}')
    with made.viewed(run) as client:
        told = client.get("/api/overview").json()
        assert [problem["where"] for problem in told["problems"]] == ["candidates"]
        assert told["is_growing"] is True
        assert {stage["name"]: stage["has_manifest"] for stage in told["stages"]}["pairs"] is False
        assert numbers(client) == [0, 1]


def test_downloads_hold_the_selection(client, made):
    lines = [json.loads(line) for line in client.get("/download/entries.jsonl?margin_to=0.3").text.splitlines()]
    assert [line["number"] for line in lines] == [2, 3, 4]
    assert lines[2]["prompt"]["text"] == made.EVIL
    answer = client.get("/download/pairs.csv?margin_to=0.3")
    assert answer.headers["content-disposition"] == 'attachment; filename="pairs.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["pair_id"] for row in rows] == [content_id("pair", n) for n in (1, 2, 3)]
    assert rows[0] | {"rejected": ""} == {
        **{"number": "2", "prompt_id": content_id("prompt", 1), "prompt": "prompt 1 about a kite"},
        **{"image_id": content_id("image", 1, 5.0), "guidance": "5.0", "image_score": "1.5"},
        **{"instruction": "what is 1?", "pair_id": content_id("pair", 1), "chosen": "c", "rejected": ""},
        **{"chosen_responder": "a", "rejected_responder": "b", "chosen_score": "0.6", "rejected_score": "0.5"},
        **{"margin": "0.1", "verdict": ""},
    }
    assert rows[2]["chosen"] == "'=SUM(A1)"  # no spreadsheet runs it
    assert len(client.get("/download/pairs.csv").text.splitlines()) == 10
    assert client.get("/download/run.yaml").status_code == 404


def test_verdicts_are_taken_from_the_page_and_compared_with_the_judge(run, made, tmp_path):
    path = tmp_path / "verdicts.jsonl"
    with VerdictFile.writing(path) as file, made.viewed(run, verdicts=file) as client:
        headers = {"x-prefmill-token": client.viewer.token}
        assert client.viewer.token in client.get("/").text
        for n, verdict in ((1, "agree"), (2, "agree"), (4, "disagree"), (2, "disagree"), (3, "agree"), (3, None)):
            told = {"entry": content_id("prompt", n), "pair": content_id("pair", n), "verdict": verdict}
            answer = client.post("/api/verdicts", json=told, headers=headers)
            assert answer.json()["verdict"] == verdict
        assert numbers(client, verdict="disagree") == [2, 4]
        assert numbers(client, verdict="none") == [n for n in PAIRED if n not in (1, 2, 4)]
        agreement = client.get("/api/overview").json()["verdicts"]
        assert (agreement["pairs"], agreement["agreed"]) == (3, 1)
        assert agreement["responders"]["a"]["judge_prefers"] == 2
        assert client.get("/download/pairs.csv?verdict=agree").text.splitlines()[1].endswith(",agree")
        wrong = {"entry": content_id("prompt", 1), "pair": content_id("pair", 2), "verdict": "agree"}
        assert client.post("/api/verdicts", json=wrong, headers=headers).status_code == 404
        odd = {**wrong, "pair": content_id("pair", 1), "verdict": "maybe"}
        assert client.post("/api/verdicts", json=odd, headers=headers).status_code == 422
        for body in (b"{", b"[]", b'{"entry": 1, "pair": 2, "verdict": 3}', b"x" * 5000):
            answer = client.post("/api/verdicts", content=body, headers={**headers, "content-type": "application/json"})
            assert answer.status_code in {400, 413}
    assert len(path.read_text().splitlines()) == 6


def test_annotations_and_preferences_of_images(run, made):
    first, second = (content_id("image", 1, scale) for scale in (3.0, 5.0))
    prompt, records = content_id("prompt", 1), made.records
    said = [
        records.Annotation(image, prompt, "judge", "fidelity", rating, made.EVIL, place)
        for place, (image, rating) in enumerate(((first, 2), (second, None)))
    ]
    made.stage(run.folder, "annotations-judge", said)
    made.stage(
        run.folder, "image_preferences", [records.ImagePreference("x", prompt, "p", "overall", second, first, 1.0)]
    )
    with made.viewed(run) as client:
        entry = client.get(f"/api/entries/{prompt}").json()
        assert [image["ratings"][0]["rating"] for image in entry["images"]] == [2, None]
        assert entry["images"][0]["ratings"][0]["reason"] == made.EVIL
        assert entry["orders"] == {"overall": [[second], [first]]}


def test_answers_before_and_after_an_evaluation(run, made):
    folder = run.folder / "evaluation" / "pope"
    for side, texts in (("before", ("yes", "no", "old")), ("after", ("yes", "yes"))):
        (folder / side).mkdir(parents=True)
        rows = [{"question_id": n, "question": made.EVIL, "answer": text} for n, text in enumerate(texts)]
        (folder / side / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (run.folder / "evaluation" / "before.json").write_text('[{"id": "x", "text": "a"}]')
    (run.folder / "evaluation" / "after.json").write_text("[{")
    (run.folder / "reports").mkdir()  # on answers, and no answers themselves
    for side in ("before", "after"):
        (run.folder / "reports" / f"{side}.json").write_text('{"measures": []}')
    with made.viewed(run) as client:
        assert client.get("/api/overview").json()["comparisons"] == ["evaluation", "evaluation/pope/answers"]
        found = client.get("/api/comparison?name=evaluation/pope/answers&changed=1").json()
        assert (found["all"], found["changed"]) == (3, 2)
        assert [(row["id"], row["before"], row["after"]) for row in found["rows"]] == [
            *(("1", "no", "yes"), ("2", "old", None))
        ]
        assert found["rows"][0]["question"] == made.EVIL
        assert client.get("/api/comparison?name=evaluation").status_code == 422
        assert client.get("/api/comparison?name=../../etc").status_code == 404
