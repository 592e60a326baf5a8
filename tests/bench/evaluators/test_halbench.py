"""Object HalBench on made-up COCO files: counts against a transcription of the rule, and every way input can be bad."""

import json
import random
import re

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.bench.evaluators.answering.questions import read_questions
from prefmill.bench.evaluators.answers.evaluation import value_of
from prefmill.bench.evaluators.halbench.answers import read_described
from prefmill.bench.evaluators.halbench.coco import FILES, read_truth
from prefmill.bench.evaluators.halbench.evaluation import evaluate_halbench
from prefmill.bench.evaluators.halbench.extracting import extract_objects, listed
from prefmill.bench.evaluators.halbench.language import LightLanguage, NltkLanguage
from prefmill.bench.evaluators.halbench.words import ObjectWords
from prefmill.bench.loopback import serving
from prefmill.engine.responders.interface import Failure
from prefmill.engine.responders.settings import ModelChoice, ServerSettings

from ...engine.responders.server.fake_chat import FakeChat, completion, text_of

SYNONYMS = """person, girl, boy, man, woman
dog, puppy
cat
horse
train
chair, seat
toilet
dining table, table
wine glass
tie
plate
bird
"""
CATEGORIES = ["person", "dog", "cat", "horse", "train", "chair", "toilet", "dining table", "wine glass", "tie", "bird"]


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "synonyms.txt"
    path.write_bytes(b"\xef\xbb\xbf" + SYNONYMS.replace("\n", "\r\n").encode())
    return ObjectWords.read(path)


@pytest.fixture
def light(words):
    return LightLanguage(words.vocabulary)


def coco(folder, images):
    """Annotations of images: {id: (categories, captions)}, the odd ids in train."""
    folder.mkdir(exist_ok=True)
    for name in FILES:
        part = [number for number in images if bool(number % 2) == ("train" in name)]
        content = {"images": [{"id": number} for number in part], "annotations": []}
        if "instances" in name:
            content["categories"] = [{"id": place + 1, "name": one} for place, one in enumerate(CATEGORIES)]
        for number in part:
            found, captions = images[number]
            content["annotations"] += (
                [{"image_id": number, "category_id": CATEGORIES.index(one) + 1} for one in found]
                if "instances" in name
                else [{"image_id": number, "caption": one} for one in captions]
            )
        (folder / name).write_text(json.dumps(content))
    return folder


def answers(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        ("Two dogs and a puppy beside a woman.", ["dog", "dog", "person"]),
        ("A baby horse behind the adult cats.", ["horse", "cat"]),
        ("He stands on the home plate, near the train tracks.", []),  # joined, and no object
        ("A plate on the dining tables", ["plate", "dining table"]),
        ("a passenger train", ["train"]),
        ("The toilet and its seat", ["toilet"]),
        ("The toilet seat and a chair", ["toilet", "chair"]),
        ("A man in a bow tie with two wine glasses", ["person", "tie", "wine glass"]),
        ("Girls, boys; seats!", ["person", "person", "chair"]),
        ("", []),
    ],
)
def test_objects_that_a_text_names(words, light, text, objects):
    assert words.named(text, light) == objects


def test_objects_of_listed_names(words, light):
    names = ["wooden table", "dog leash", "wine glasses", "baby bird", "dogs", "dogs", "toilet", "seat"]
    # a dog leash ends in no object; names that are the same count once; a seat beside a toilet is none
    assert words.of_phrases(names, light) == ["dining table", "wine glass", "bird", "dog", "toilet"]


def test_words_and_names_by_nltk(words, nltk_data):
    """Its tokens and WordNet's basic forms; a name's nouns by its tagger, neighbours as one."""
    from nltk.stem import WordNetLemmatizer

    language = NltkLanguage()
    text = "The dogs sit near a cat. Men!"
    lemmatize = WordNetLemmatizer().lemmatize
    assert language.words(text) == [lemmatize(word) for word in nltk_data.word_tokenize(text.lower())]
    assert words.named(text, language) == ["dog", "cat", "person"]
    assert language.nouns("a orange cat") == ["cat"]  # orange is an adjective in this data
    assert words.of_phrases(["orange cat", "dogs", "baby horse"], language) == ["cat", "dog", "horse"]
    assert language.name == f"nltk-{nltk_data.__version__}"


def test_missing_data_of_nltk_is_named_with_its_command(tmp_path, monkeypatch):
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(PrefmillError, match="NLTK's data are not here") as error:
        NltkLanguage()
    assert "nltk.downloader punkt_tab wordnet averaged_perceptron_tagger_eng" in error.value.fix


def reference(described, truth):
    """The rule in plain loops, as the official script adds it up."""
    captions = coco_captions = hallucinated = bad = mentions = found = there = length = 0
    for image, named, text in described:
        captions += 1
        length += len(text.strip().split(" "))
        there += len(truth[image])
        mentions += len(named)
        wrong = [one for one in named if one not in truth[image]]
        bad += len(wrong)
        hallucinated += bool(wrong)
        coco_captions += bool(named)
        found += len(set(named) - set(wrong))
    return {
        "CHAIRs": 100 * hallucinated / captions,
        "CHAIRs_refine": 100 * hallucinated / coco_captions,
        "CHAIRi": 100 * bad / mentions,
        "recall": 100 * found / there,
        "words": length / captions,
    }


def test_counts_are_those_of_the_rule(tmp_path, words, light):
    draw = random.Random(3)
    nouns = ["dog", "cat", "horse", "person", "bird"]
    images = {n: (draw.sample(nouns, 2), [f"A {draw.choice(nouns)} there."]) for n in range(1, 301)}
    folder = coco(tmp_path / "coco", images)
    said = {n: draw.choices(nouns, k=draw.randrange(4)) for n in images}
    rows = [
        {"image_id": n, "question": "What is here?", "text": " Assistant: " + " and ".join(["I see", *said[n]]) + "\n"}
        for n in images
    ]
    draw.shuffle(rows)
    file = read_described(answers(tmp_path / "a.jsonl", rows), None, partial=False)
    truth = read_truth(folder, images, words, light)
    assert all(set(found) <= truth.objects[n] for n, (found, _) in images.items())
    found = evaluate_halbench(file, truth, words, light, {})
    spoken = [(n, said[n], " and ".join(["I see", *said[n]])) for n in images]
    expected = reference(spoken, {n: set(found) | {captions[0].split()[1]} for n, (found, captions) in images.items()})
    assert {one.name: value_of(one, found.items) for one in found.measures} == pytest.approx(expected, abs=1e-12)
    report = found.report("x")
    assert report["settings"] == {"objects": "words of the answer", "language": "light"}
    assert len(report["inputs"]) == 5
    assert report["coverage"]["answered"] == 300
    assert list(expected) != []
    assert report["measures"][0]["name"] == "CHAIRs_refine"


SMALL = {42: (["dog"], ["A dog."]), 7: (["cat", "person"], ["A cat and a woman at a table."])}
ROWS = [
    {"image_id": 42, "prompt": "Describe.", "answer": "A dog and a horse run."},
    {"image_id": "COCO_val2014_000000000007.jpg", "prompt": "Describe.", "answer": "A cat."},
]


def test_an_extractor_lists_the_objects_and_is_asked_once(tmp_path, words, light):
    """Answers of up to three words are not sent; prose is asked about once more; a restart asks for what is missing."""
    folder = coco(tmp_path / "coco", SMALL)
    rows = [*ROWS, {"image_id": 7, "prompt": "Again?", "answer": "There is a cat on a table."}]
    file = read_described(answers(tmp_path / "a.jsonl", rows), None, partial=True)
    chatty = []

    def script(body, number):
        if "cat on a table" in text_of(body):
            return completion('Here you are:\n```json\n["cat", "table"]\n```' if chatty else "I see a cat.")
        return completion('["brown dog", "horses"]')

    fake = FakeChat(script)
    with serving(fake) as url:
        choice = ModelChoice(
            model="lister", backend="openai", url=f"{url}/v1", server=ServerSettings(timeout=5.0, concurrency=1)
        )
        spoken = [(one.question, one.text) for one in file.items]
        truth = read_truth(folder, SMALL, words, light)
        first = extract_objects(spoken, choice, tmp_path / "kept", Progress())
        assert first.asked == 3
        assert isinstance(first.names[2], Failure)
        with pytest.raises(PrefmillError, match="the objects of 1 of 3 answers were not listed, as one: unfit"):
            evaluate_halbench(file, truth, words, light, {}, first)
        part = evaluate_halbench(file, truth, words, light, {}, first, partial=True)
        assert part.counts["all"]["items"] == 2
        assert "left out: 1 answers" in " ".join(part.notes)
        chatty.append(True)
        assert len(fake.bodies) == 3
        again = extract_objects(spoken, choice, tmp_path / "kept", Progress())
        assert again.asked == 1
        assert len(fake.bodies) == 4
    assert again.names == [["brown dog", "horses"], [], ["cat", "table"]]
    found = evaluate_halbench(file, truth, words, light, {}, again)
    # the dog is there, the horse is not; the short answer names nothing; cat and table are there
    values = {one.name: value_of(one, found.items) for one in found.measures}
    assert values == pytest.approx(
        {"CHAIRs_refine": 50, "CHAIRs": 100 / 3, "CHAIRi": 25, "recall": 300 / 7, "words": 15 / 3}
    )
    assert found.settings["objects"].startswith("listed by lister@")
    assert found.settings["request"] == "prefmill-1"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("[]", []),
        ('Thinking [1] of ["x"].\n```json\n["dog", "dining table"]\n```', ["dog", "dining table"]),
        ("a dog [and a cat", None),
        ("[1, 2]", None),
        ("none", None),
    ],
)
def test_lists_in_replies(text, names):
    assert listed(text) == names


def test_answers_that_do_not_fit(tmp_path):
    path = answers(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(PrefmillError, match="2 questions about 2 images, where Object HalBench has 300"):
        read_described(path, None, partial=False)
    part = read_described(path, None, partial=True)
    assert [one.image for one in part.items] == [42, 7]
    assert len(part.notes) == 2
    with pytest.raises(PrefmillError, match="1 duplicate; 1 conflicting"):
        read_described(answers(tmp_path / "b.jsonl", [*ROWS, {**ROWS[0], "answer": "No."}]), None, partial=False)
    with pytest.raises(PrefmillError, match=re.escape("c.jsonl:1: no image_id of COCO")):
        read_described(
            answers(tmp_path / "c.jsonl", [{"image_id": "x", "text": "a", "prompt": "b"}]), None, partial=True
        )
    questions = answers(tmp_path / "q.jsonl", [{"image_id": 9, "question": "Describe."}, *SMALL_QUESTIONS])
    with pytest.raises(PrefmillError, match="1 missing"):
        read_described(path, read_questions("objhal", questions), partial=False)


SMALL_QUESTIONS = [{"image_id": 42, "question": "Describe."}, {"image_id": 7, "question": "Describe."}]


def test_answers_by_order_take_their_images_from_the_questions(tmp_path):
    questions = read_questions("objhal", answers(tmp_path / "q.jsonl", SMALL_QUESTIONS))
    path = answers(tmp_path / "a.jsonl", [{"text": "one"}, {"text": "two"}])
    assert [(one.image, one.text) for one in read_described(path, questions, partial=True).items] == [
        (42, "one"),
        (7, "two"),
    ]
    with pytest.raises(PrefmillError, match="1 answers without ids to 2 questions"):
        read_described(answers(tmp_path / "b.jsonl", [{"text": "one"}]), questions, partial=True)


def test_annotations_that_are_not_coco(tmp_path, words, light):
    folder = coco(tmp_path / "coco", SMALL)
    with pytest.raises(PrefmillError, match="COCO has no image 5"):
        read_truth(folder, [5], words, light)
    (folder / FILES[0]).write_text("{")
    with pytest.raises(PrefmillError, match=r"instances_val2014.json is no JSON"):
        read_truth(folder, [42], words, light)
    (folder / FILES[1]).unlink()
    with pytest.raises(PrefmillError, match=r"lacks instances_train2014.json"):
        read_truth(folder, [42], words, light)


def test_synonyms_that_are_none(tmp_path):
    (tmp_path / "s.txt").write_text("dog\ncat\n")
    with pytest.raises(PrefmillError, match="holds no synonyms"):
        ObjectWords.read(tmp_path / "s.txt")
    with pytest.raises(PrefmillError, match="does not exist"):
        ObjectWords.read(tmp_path / "none.txt")
