"""What is no answer, by a sentence each; and that a text of a hundred thousand words is read once."""

import time

import pytest
from prefmill.pipeline.pairs.artifacts import artifact_in
from prefmill.pipeline.pairs.faults import AnswerLimits, clean, fault_of
from prefmill.pipeline.pairs.generic import generic_share
from prefmill.pipeline.pairs.words import words_of

QUESTION = "What is the colour of the bird on the branch?"
LOOSE = AnswerLimits(maximum_words=10**6, maximum_repetition=1.0, refuse_artifacts=False, maximum_generic=1.0)

ARTIFACTS = {
    "The bird is red.</s>": "a special token",
    "The bird is red.<|im_end|>": "a special token",
    "[INST] What is it? [/INST] The bird is red": "a special token",
    "The bird is <start_of_turn> red": "a special token",
    "<0x0A>The bird is red": "a special token",
    "<image> The bird is red": "an image marker",
    "▁The▁bird▁is▁red": "a tokenizer's marks",
    "The bird is red USER: and the tree?": "a chat template's role",
    "The bird is red\nAssistant: it is": "a chat template's role",
    "The bird is red ### Human: why": "a chat template's role",
    "The bird is <script>alert(1)</script> red": "a script",
    '<b class="x">The bird</b> is red': "an HTML tag",
    "The bird is&nbsp;red": "an HTML entity",
    "```\nThe bird is red\n```": "a code fence",
    "![bird](bird.png) The bird is red": "a Markdown image",
    '{"answer": "the bird is red"}': "JSON",
    '["the bird", "is red"]': "JSON",
    '{"answer": "the bird is': "JSON",
    "The bird is red \ud83d": "half a character",
    "The bird \ufffd is red": "a replacement character",
    "The bird \x1b[31m is red": "a control character",
    "The birdâ€™s breast is red": "text read in another encoding",
    "| --- | --- | ### *** red ___": "18 signs among 21 characters",
    "Look: " + "ha" * 60: "a word of more than 100 letters",
}

GENERIC = [
    "I'm sorry, but as an AI language model I cannot see images.",
    "I\u2019m unable to assist with that request.",
    "Sure! Here is a description of the image:",
    "Here's the answer to your question:",
    "No image was provided. Please upload an image so that I can help.",
    "Great question! I hope this helps. Let me know if you have any other questions!",
    "This is an image.",
    "The image shows a picture of something.",
    "Es tut mir leid, ich kann das Bild nicht sehen.",
]

ANSWERS = [
    "Sure! The bird is red, and it sits on a thin branch.",
    "I cannot see the bird's tail in this image, but its breast is red.",
    "I don't see a bird in the picture; the branch is empty.",
    "It is a painting of a red bird.",
    "**Bird:** a red robin\n- red breast\n- grey wings",
    "1. The bird is red.\n2. Its beak is > 2 cm & yellow.",
    "It costs $5.00, as the sign says.",
    "Human: one person, on the left, who looks at the red bird",
    "No, it is not.",
]


@pytest.mark.parametrize(("text", "trace"), ARTIFACTS.items(), ids=ascii)
def test_traces_of_templates_markup_and_broken_text_are_named(text, trace):
    assert artifact_in(text) == trace
    assert fault_of(text, QUESTION, AnswerLimits()) == ("artifact", f"holds {trace}")
    assert fault_of(text, QUESTION, AnswerLimits(refuse_artifacts=False, same_language=False)) in (
        None,
        ("too_short", "1 words, at least 2"),
    )


@pytest.mark.parametrize("text", GENERIC)
def test_what_would_fit_any_image_is_generic(text):
    assert generic_share(text) > 0.5
    fault = fault_of(text, QUESTION, AnswerLimits(same_language=False))
    assert fault is not None
    assert fault[0] == "generic"
    assert fault_of(text, QUESTION, AnswerLimits(same_language=False, maximum_generic=1.0)) is None


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_are_let_through(text):
    assert fault_of(text, QUESTION, AnswerLimits()) is None


def test_the_generic_share_is_that_of_the_words_in_generic_sentences():
    assert generic_share("Of course! The bird is red, and it sings.") == pytest.approx(2 / 9)
    assert generic_share("") == 0.0


def test_the_instruction_repeated_several_times_or_almost_is_an_echo():
    assert fault_of(f"{QUESTION} {QUESTION.upper()}\n{QUESTION}", QUESTION, AnswerLimits()) == (
        "echo",
        "only the instruction repeated",
    )
    fault = fault_of(f"'{QUESTION}'", QUESTION, AnswerLimits())
    assert fault == ("echo", "100% like the instruction")
    assert clean(f"{QUESTION} {QUESTION} Red it is.", QUESTION) == "Red it is."


def test_one_word_said_again_is_a_repetition_however_short():
    assert fault_of("red red red red", QUESTION, AnswerLimits()) == ("repetition", "100% of its 4 words are one word")
    assert fault_of("a red, red bird", QUESTION, AnswerLimits()) is None


def test_words_are_counted_where_no_spaces_are_written():
    assert words_of("红色的鸟 and a Tree") == ["红", "色", "的", "鸟", "and", "a", "tree"]
    chinese = "图片中的鸟是什么颜色的？"
    assert fault_of("这只鸟站在树枝上，羽毛是鲜艳的红色和黑色。", chinese, AnswerLimits()) is None
    assert fault_of("红色红色" * 20, chinese, AnswerLimits(same_language=False)) == (
        "repetition",
        "97% of its 80 words repeat a sequence said before",
    )
    assert fault_of("डाली पर बैठी चिड़िया का रंग लाल और काला है", "चिड़िया का रंग क्या है?", AnswerLimits()) is None


@pytest.mark.parametrize("unit", ["red ", "I am an ", "<a ", "![", "a\n", "很", '{"a":', "here's a "])
def test_time_grows_with_the_length_and_no_faster(unit):
    """Doubling a text at most triples its time; a quadratic step would multiply it by four."""

    def seconds(text: str) -> float:
        taken = []
        for limits in (AnswerLimits(), LOOSE):
            started = time.process_time()
            fault_of(text, QUESTION, limits)
            artifact_in(text)
            generic_share(text)
            taken.append(time.process_time() - started)
        return sum(taken)

    text = unit * (15_000 // len(unit))
    seconds(text[:100])  # the language model is loaded once
    assert min(seconds(text * 2) for _ in range(2)) < 3 * seconds(text) + 0.05
