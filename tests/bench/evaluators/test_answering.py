"""A model's answers to a benchmark's questions: in the official form, each asked once, whatever stops it."""

import base64
import json
import re

import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.bench.evaluators.amber.asking import amber_questions_to_ask
from prefmill.bench.evaluators.amber.data import read_amber
from prefmill.bench.evaluators.answering.questions import first_of, read_questions
from prefmill.bench.evaluators.answering.writing import Answering, write_answers
from prefmill.bench.evaluators.pope.asking import pope_questions_to_ask
from prefmill.bench.evaluators.pope.questions import read_questions as pope_questions
from prefmill.bench.loopback import serving
from prefmill.engine.responders.settings import ModelChoice, ServerSettings
from prefmill.engine.settings import Sampling

from ...engine.responders.server.fake_chat import FakeChat, completion, error, text_of

POPE = [
    {"question_id": number, "image": f"{number % 3}.png", "text": f"Is there a thing {number}?", "label": "yes"}
    for number in range(1, 6)
]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def questions(tmp_path):
    return written(tmp_path / "coco_pope_random.json", POPE)


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def asked(benchmark, path):
    if benchmark == "amber":
        return amber_questions_to_ask(read_amber(path))
    if benchmark == "pope":
        return pope_questions_to_ask(pope_questions([path]))
    return read_questions(benchmark, path).questions


def asking(fake, images, target, questions, **options):
    settings = ServerSettings(timeout=5.0, concurrency=1, attempts=1)
    with serving(fake) as url:
        # a server's address is part of what an answer depends on: it has to stay the same over the calls of a test
        choice = ModelChoice(model="any", backend="openai", url=f"{url}/v1", server=settings, batch_size=2)
        own = {name: options.pop(name) for name in ("suffix", "sampling") if name in options}
        return write_answers(
            target,
            asked(options.pop("benchmark", "pope"), questions),
            Answering(choice, images, **own),
            Progress(),
            **options,
        )


def test_answers_in_the_form_of_the_benchmark(tmp_path, images, questions):
    fake = FakeChat()
    found = asking(fake, images, tmp_path / "answers.jsonl", questions, suffix="Answer with one word.")
    assert found.answered == 5
    assert not found.failures
    assert found.model.startswith("any@127.0.0.1")
    assert rows(found.path) == [
        {
            **{"question_id": row["question_id"], "image": row["image"], "question": row["text"]},
            "category": "random",
            "answer": f"answer to {row['text']} Answer with one word.",
        }
        for row in POPE
    ]
    assert all(body["max_tokens"] == 64 and body["temperature"] == 0 for body in fake.bodies)
    assert sum(part["type"] == "image_url" for part in fake.bodies[0]["messages"][0]["content"]) == 1


def test_nothing_is_asked_twice_after_a_kill(tmp_path, images, questions):
    """The server dies in the middle; the same command asks only what it has no answer to, and ends in the same file."""

    def script(body, number):
        return error(401, "gone") if text_of(body).endswith("4?") and not alive else None

    fake, alive = FakeChat(script), []
    target = tmp_path / "answers.jsonl"
    with serving(fake) as url:
        settings = ServerSettings(timeout=5.0, concurrency=1, attempts=1)
        choice = ModelChoice(model="any", backend="openai", url=f"{url}/v1", server=settings, batch_size=2)
        again = lambda: write_answers(  # noqa: E731
            target, asked("pope", questions), Answering(choice, images), Progress()
        )
        with pytest.raises(PrefmillError):
            again()
        assert not target.exists()
        journal = target.with_name("answers.jsonl.written") / "replies.jsonl"
        journal.write_bytes(journal.read_bytes() + b'{"name": "4", "asked": "torn')  # what a kill leaves of a row
        alive.append(True)
        again()
        assert [row["question_id"] for row in rows(target)] == [1, 2, 3, 4, 5]
        assert set(fake.answers.values()) == {1}
        before = len(fake.bodies)
        assert again().answered == 5
        assert len(fake.bodies) == before
        target.unlink()
        again()  # the replies are kept
        assert len(fake.bodies) == before
        assert len(rows(target)) == 5


def test_an_image_that_cannot_be_read_is_named_and_nothing_takes_its_place(tmp_path, images, questions):
    (images / "1.png").write_bytes((images / "1.png").read_bytes()[:40])
    target = tmp_path / "answers.jsonl"
    with pytest.raises(PrefmillError, match="2 of 5 questions have no usable answer: question random/1: unreadable"):
        asking(FakeChat(), images, target, questions)
    assert not target.exists()
    fake = FakeChat()
    found = asking(fake, images, tmp_path / "part.jsonl", questions, partial_answers=True)
    assert sorted(found.failures) == ["random/1", "random/4"]
    assert [row["question_id"] for row in rows(found.path)] == [2, 3, 5]
    assert len(fake.bodies) == 3


def test_missing_images_are_found_before_anything_is_asked(tmp_path, images, questions):
    (images / "2.png").unlink()
    fake = FakeChat()
    with pytest.raises(
        PrefmillError, match=r"2 of 5 questions have no usable image: question random/2: '2.png' in images"
    ):
        asking(fake, images, tmp_path / "answers.jsonl", questions)
    assert not fake.bodies


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "link.png", "a/../../secret.png"])
def test_a_question_cannot_lead_out_of_the_folder(tmp_path, images, name):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (images / "link.png").symlink_to(tmp_path / "secret.png")
    path = written(tmp_path / "pope_random.jsonl", [{**POPE[0], "image": name}])
    fake = FakeChat()
    with pytest.raises(PrefmillError, match="question random/1"):
        asking(fake, images, tmp_path / "answers.jsonl", path, partial_answers=True)
    assert not fake.bodies


def test_files_of_others_and_other_settings_are_refused(tmp_path, images, questions):
    target = written(tmp_path / "answers.jsonl", [{"question_id": 1, "answer": "yes"}])
    with pytest.raises(PrefmillError, match="was not written by this command"):
        asking(FakeChat(), images, target, questions)
    target.unlink()
    asking(FakeChat(), images, target, questions)
    with pytest.raises(PrefmillError, match=r"other settings: .*sampling"):
        asking(FakeChat(), images, target, questions, sampling=Sampling(temperature=0.5))


def test_amber_and_the_others_have_their_own_forms(tmp_path, images):
    amber = [
        {"id": 1, "image": "0.png", "query": "Describe this image."},
        {"id": 1005, "image": "1.png", "query": "Is there a cat?"},
    ]
    annotations = [
        {"id": 1, "type": "generative", "truth": ["cat"], "hallu": ["dog"]},
        {"id": 1005, "type": "discriminative-hallucination", "truth": "no"},
    ]
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    (tmp_path / "relation.json").write_text(json.dumps({"cat": [], "dog": []}))
    (tmp_path / "safe_words.txt").write_text("animal\n")
    (tmp_path / "query_all.json").write_text(json.dumps(amber))
    fake = FakeChat(lambda body, number: completion("Yes"))
    asking(fake, images, tmp_path / "amber.jsonl", tmp_path, benchmark="amber", suffix="Yes or No?")
    assert rows(tmp_path / "amber.jsonl") == [{"id": 1, "response": "Yes"}, {"id": 1005, "response": "Yes"}]
    assert sorted(map(text_of, fake.bodies)) == ["Describe this image.", "Is there a cat? Yes or No?"]
    assert {body["max_tokens"] for body in fake.bodies} == {64, 512}

    Image.new("RGB", (8, 8)).save(images / "COCO_val2014_000000000042.jpg")
    path = written(tmp_path / "hal.jsonl", [{"image_id": 42, "question": "Describe."}])
    asking(FakeChat(), images, tmp_path / "hal-answers.jsonl", path, benchmark="objhal")
    assert rows(tmp_path / "hal-answers.jsonl") == [
        {"image_id": 42, "question": "Describe.", "answer": "answer to Describe."}
    ]

    item = {"image_src": "https://a.b/c/0.png", "image_id": "x", "question": "Why?", "gt_answer": "So."}
    path = written(tmp_path / "mmhal.json", [item])
    asking(FakeChat(), images, tmp_path / "mm.jsonl", path, benchmark="mmhal")
    assert rows(tmp_path / "mm.jsonl") == [{**item, "model_answer": "answer to Why?"}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "a"}, "no image_id of COCO"),
        ({"image_id": 1}, "no question: it holds image_id"),
        ({"image_id": 1, "question": "a", "image": "x" * 501}, "the image is no base64"),
    ],
)
def test_rows_that_are_no_questions(tmp_path, row, message):
    with pytest.raises(PrefmillError, match=re.escape(f"q.jsonl:1: {message}")):
        read_questions("objhal", written(tmp_path / "q.jsonl", [row]))


def test_an_image_within_the_file_of_questions(tmp_path, images):
    Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "a.png")
    encoded = base64.b64encode((tmp_path / "a.png").read_bytes()).decode()
    path = written(tmp_path / "q.jsonl", [{"image_id": 7, "question": "Describe.", "image": encoded}])
    fake = FakeChat()
    assert asking(fake, images, tmp_path / "a.jsonl", path, benchmark="objhal").answered == 1


def test_a_part_of_the_questions_is_spread_over_the_file(questions):
    found = asked("pope", questions)
    assert [one.id for one in first_of(found, 2)] == ["random/1", "random/3"]
    assert first_of(found, None) is found
