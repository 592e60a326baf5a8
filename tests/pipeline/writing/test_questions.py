import json
import re

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.writing.questions import QUESTION_READER, Questions
from prefmill.pipeline.writing.things import things_in
from prefmill.pipeline.writing.wording import Wording

QUESTIONS = Questions(Wording())


@pytest.mark.parametrize(
    ("prompt", "things"),
    [
        (
            "A handcrafted ceramic vase with a crackled glaze finish",
            ("handcrafted ceramic vase", "crackled glaze finish"),
        ),
        ("A close-up photograph of dewdrops on a spiderweb at dawn", ("dewdrops", "spiderweb")),
        ("A woman reading a newspaper beside three old bicycles.", ("woman", "newspaper", "old bicycles")),
        ("An abstract painting on canvas, hung above the sofa", ("abstract painting", "sofa")),
        ("A man feeding pigeons in the rain", ("rain",)),
        ("cats and dogs, highly detailed, artstation", ()),
        ("猫が好き", ()),
        ("", ()),
        ("a a the", ()),
    ],
)
def test_things_are_what_the_prompt_names(prompt, things):
    assert things_in(prompt) == things


def test_things_are_never_invented(shared):
    for row in json.loads((shared / "data" / "refl-prompts.json").read_text())[:500]:
        words = re.findall(r"[^\W\d_][\w’'-]*", row["text"])
        for thing in things_in(row["text"]):
            parts = thing.split()
            assert any(words[place : place + len(parts)] == parts for place in range(len(words)))


def test_several_questions_are_of_several_kinds_and_depend_on_the_image_alone():
    prompt = "A red fox beside a frozen lake, with tall reeds and a wooden pier"
    texts = QUESTIONS.write("image-1", prompt, 8)
    assert len(set(texts)) == 8
    assert texts == QUESTIONS.write("image-1", prompt, 8)
    assert texts[:3] == QUESTIONS.write("image-1", prompt, 3)
    assert texts != QUESTIONS.write("image-2", prompt, 8)
    assert sorted(QUESTIONS.chosen("image-1", 8)) == sorted(QUESTIONS.kinds)
    assert any("red fox" in text or "frozen lake" in text for text in texts)
    assert all(QUESTION_READER.reason_against(text, prompt) == "" for text in texts)


def test_a_prompt_that_names_nothing_gets_questions_all_the_same():
    texts = QUESTIONS.write("image", "{x} 猫 <image>", 12)
    assert len(set(texts)) == 12
    assert not any("{" in text or "<" in text for text in texts)


def test_the_request_holds_the_prompt_as_it_is_and_the_kinds():
    text = QUESTIONS.request_for("image", "a {count} with {0} braces", "art", 2)
    assert "a {count} with {0} braces" in text
    assert "Write 2 different" in text
    assert text.count("\n- ") == 2


def test_kinds_without_forms_are_refused(tmp_path):
    (tmp_path / "questions.yaml").write_text("kinds: {a: b}\ngrammar: {c: [d]}\n")
    with pytest.raises(PrefmillError, match="'a' has no forms"):
        Questions(Wording(tmp_path))
