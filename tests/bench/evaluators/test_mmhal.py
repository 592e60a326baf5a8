"""MMHal-Bench: ratings read as the official script does, verdicts kept, and the formulas by hand."""

import json
import os
import signal
import subprocess
import sys

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.bench.evaluators.answers.evaluation import value_of
from prefmill.bench.evaluators.mmhal.evaluation import evaluate_mmhal
from prefmill.bench.evaluators.mmhal.items import TYPES, read_items
from prefmill.bench.evaluators.mmhal.judging import OURS, Template, judge_items, rating_of, read_template
from prefmill.bench.loopback import serving
from prefmill.engine.responders.interface import Answer
from prefmill.engine.responders.settings import ModelChoice, ServerSettings

from ...engine.responders.server.fake_chat import FakeChat, completion, error, text_of


def item(number, **fields):
    return {
        "question_type": TYPES[number % 8],
        "image_id": f"{number}",
        "image_src": f"https://images/{number}.jpg",
        "image_content": ["Cat", "Tree {}"],
        "question": f"What of {number}?",
        "gt_answer": "A cat.",
        "model_answer": f"Answer {number}.",
        **fields,
    }


def template(path, rows):
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def answers(tmp_path):
    return template(tmp_path / "answers.json", [item(number) for number in range(96)])


def judged(fake, items, folder, request=Template(), **server):  # noqa: B008
    with serving(fake) as url:
        settings = ServerSettings(timeout=5.0, concurrency=8, attempts=1, **server)
        choice = ModelChoice(model="judge", backend="openai", url=f"{url}/v1", server=settings, batch_size=16)
        return judge_items(items, choice, request, folder, Progress())


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("It is fine.\n- Rating: 5, very informative, no hallucination", 5),
        ("RATING: 0", 0),
        ("Rating: 3 ... so the rating: 3", 3),  # the same one twice is one
        ("Rating: 2, or rating: 4", None),
        ("I would rate it five.", None),
        ("Rating:5", None),
        ("**Rating**: 5", None),
        ("Rating: 60", 6),  # as the script's search finds it
        ("", None),
    ],
)
def test_ratings_as_the_script_reads_them(text, rating):
    assert rating_of(text) == rating


def test_formulas(tmp_path, answers):
    """Item n is rated n % 7, but one is prose and one has two ratings: those count 0."""
    numbers = {f"What of {number}?": number for number in range(96)}
    odd = {10: "I cannot say.", 20: "Rating: 5. Or rating: 6."}

    def script(body, number):
        text = text_of(body)
        place = next(value for words, value in numbers.items() if words in text)
        return completion(odd.get(place, f"Because.\nRating: {place % 7}"))

    fake = FakeChat(script)
    file = read_items(answers, None, partial=False)
    verdicts = judged(fake, file.items, tmp_path / "kept")
    found = evaluate_mmhal(file, verdicts)
    scores = [0 if number in odd else number % 7 for number in range(96)]
    informative = [one - 3 if one >= 3 else one for one in scores]
    values = {(one.group, one.name): value_of(one, found.items) for one in found.measures}
    assert values["all", "score"] == pytest.approx(sum(scores) / 96)
    assert values["all", "hallucination rate"] == pytest.approx(100 * sum(one < 3 for one in scores) / 96)
    assert values["all", "informativeness"] == pytest.approx(100 * sum(informative) / 96 / 3)
    for place, name in enumerate(TYPES):
        assert values[name, "score"] == pytest.approx(sum(scores[place::8]) / 12)
    assert found.counts["all"]["unparsed"] == 2
    settings = found.settings
    assert settings["judge"].startswith("judge@127.0.0.1")
    assert settings["template"] == "prefmill-1"
    assert len(settings["template_sha256"]) == 64
    assert [note for note in found.notes if "2 verdicts state no rating" in note]
    assert all(body["temperature"] == 0 for body in fake.bodies)
    assert "Tree {}" in text_of(fake.bodies[0])  # braces of a text are text


def test_a_judging_that_was_stopped_asks_nothing_twice(tmp_path, answers):
    dead = [True]

    def script(body, number):
        if "What of 40?" in text_of(body) and dead:
            return error(402, "no money")
        return completion("Rating: 4")

    fake = FakeChat(script)
    file = read_items(answers, None, partial=False)
    with serving(fake) as url:
        settings = ServerSettings(timeout=5.0, concurrency=1, attempts=1)
        choice = ModelChoice(model="judge", backend="openai", url=f"{url}/v1", server=settings, batch_size=16)
        with pytest.raises(PrefmillError):
            judge_items(file.items, choice, Template(), tmp_path / "kept", Progress())
        before = {text_of(body) for body in fake.bodies if "What of 40?" not in text_of(body)}
        assert len(before) >= 32
        dead.clear()
        verdicts = judge_items(file.items, choice, Template(), tmp_path / "kept", Progress())
        # of the third batch, too, what was answered when the account was found empty
        assert max(calls for text, calls in fake.calls.items() if "What of 40?" not in text) == 1
        assert verdicts.asked <= 64
        again = judge_items(file.items, choice, Template(), tmp_path / "kept", Progress())
        assert again.asked == 0
        assert list(again.replies) == list(verdicts.replies)
        assert value_of(evaluate_mmhal(file, again).measures[0], evaluate_mmhal(file, again).items) == 4


KILLED = """
import sys
from pathlib import Path
from prefmill.base.progress import Progress
from prefmill.bench.evaluators.mmhal.items import read_items
from prefmill.bench.evaluators.mmhal.judging import Template, judge_items
from prefmill.engine.responders.settings import ModelChoice, ServerSettings
url, answers, kept = sys.argv[1:]
choice = ModelChoice(
    model="judge", backend="openai", url=url, server=ServerSettings(timeout=5.0, concurrency=1), batch_size=8
)
judge_items(read_items(Path(answers), None, partial=False).items, choice, Template(), Path(kept), Progress())
"""


def test_a_judging_that_was_killed_asks_nothing_twice(tmp_path, answers):
    """SIGKILL after 20 verdicts, in the middle of the third batch; the 20 were kept as they came."""
    running = []

    def script(body, number):
        if len(fake.bodies) == 21 and len(running) == 1:
            running[0].kill()
            running.append(None)
        return completion("Rating: 4")

    fake, kept = FakeChat(script), tmp_path / "kept"
    with serving(fake) as url:
        command = [sys.executable, "-c", KILLED, f"{url}/v1", str(answers), str(kept)]
        running.append(subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}))
        assert running[0].wait(120) == -signal.SIGKILL
        server = ServerSettings(timeout=5.0, concurrency=1)
        choice = ModelChoice(model="judge", backend="openai", url=f"{url}/v1", server=server, batch_size=8)
        file = read_items(answers, None, partial=False)
        verdicts = judge_items(file.items, choice, Template(), kept, Progress())
    assert len(fake.calls) == 96
    assert sum(calls - 1 for calls in fake.calls.values()) <= 1  # the one that was on its way
    assert {reply.text for reply in verdicts.replies if isinstance(reply, Answer)} == {"Rating: 4"}
    assert evaluate_mmhal(file, verdicts).counts["all"]["items"] == 96


def test_items_without_a_verdict(tmp_path, answers):
    fake = FakeChat(lambda body, number: error(400, "no") if "What of 3?" in text_of(body) else completion("Rating: 6"))
    file = read_items(answers, None, partial=False)
    verdicts = judged(fake, file.items, tmp_path / "kept")
    with pytest.raises(PrefmillError, match="1 of 96 items have no verdict"):
        evaluate_mmhal(file, verdicts)
    part = evaluate_mmhal(file, verdicts, partial=True)
    assert part.counts["all"]["items"] == 95
    assert "left out: 1 items without a verdict" in part.notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:95], "95 items, where MMHal-Bench has 96"),
        (lambda rows: [rows[1], rows[0], *rows[2:]], "'adversarial' stands in the place of another|'attribute'"),
        (lambda rows: [{**rows[0], "model_answer": None}, *rows[1:]], "1 missing; 1 null"),
        (lambda rows: [{**rows[0], "image_content": "Cat"}, *rows[1:]], "item 1: image_content is no list"),
        (lambda rows: [{**rows[0], "question": 3}, *rows[1:]], "item 1: question is missing"),
        (lambda rows: [{"question": "x"}, *rows[1:]], "item 1: no answer"),
    ],
)
def test_items_that_do_not_fit(tmp_path, change, message):
    path = template(tmp_path / "a.json", change([item(number) for number in range(96)]))
    with pytest.raises(PrefmillError, match=message):
        read_items(path, None, partial=False)


def test_answers_beside_the_template(tmp_path):
    questions = template(tmp_path / "t.json", [item(number, model_answer="") for number in range(96)])
    rows = [{"question_id": number, "text": f"Assistant: said {number}"} for number in range(96)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_items(path, questions, partial=False)
    assert [one.answer for one in found.items[:2]] == ["said 0", "said 1"]
    assert set(found.inputs) == {
        "answers",
        "questions",
    }


def test_the_request_of_the_benchmarks_script_is_taken_without_running_it(tmp_path):
    script = tmp_path / "eval_gpt4.py"
    script.write_text("raise SystemExit\ntemplate = '''A {}\nB {}\nC {}\nD {}'''\n")
    found = read_template(script)
    assert (found.text, found.version) == ("A {}\nB {}\nC {}\nD {}", "given")
    for name, text in [("a.txt", "only {} and {}"), ("b.txt", "{} {} {} {} {x}"), ("c.py", "x = 1"), ("d.py", "x = (")]:
        (tmp_path / name).write_text(text)
        with pytest.raises(PrefmillError, match=r"holds no request|assigns no text|is no Python"):
            read_template(tmp_path / name)
    assert OURS.count("{}") == 4
