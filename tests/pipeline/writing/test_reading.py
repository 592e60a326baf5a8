"""Everything models do with the request for a list, and what must not get through."""

import pytest
from prefmill.pipeline.writing.questions import QUESTION_READER
from prefmill.pipeline.writing.reading import MOST_CHARACTERS, Reader

READER = Reader(fewest_words=3, most_words=30)
CATS = ["A red cat on a table", "Two dogs near the sea"]


@pytest.mark.parametrize(
    "reply",
    [
        "A red cat on a table\nTwo dogs near the sea",
        "1. A red cat on a table\n\n2) Two dogs near the sea\n",
        '- "A red cat on a table"\n* “Two dogs near the sea”',
        "```\nA red cat on a table\nTwo dogs near the sea\n```",
        '```json\n["A red cat on a table", "Two dogs near the sea"]\n```',
        '{"prompts": [{"id": 1, "prompt": "A red cat on a table"}, {"id": 2, "prompt": "Two dogs near the sea"}]}',
        '{"prompt": "A red cat on a table"}\n{"prompt": "Two dogs near the sea"}',
        "**1. A red cat on a table**\n**Prompt 2:** Two dogs near the sea",
        "Prompt 1: A red cat on a table\r\nPrompt 2: Two dogs near the sea",
        "<think>They want cats. A cat in a box?</think>\nA red cat on a table\nTwo dogs near the sea<|im_end|>",
        "[INST] A red cat on a table\n<image> Two dogs near the sea</s>",
        "## Cats\n(1) A red cat on a table\n---\n(2) Two dogs near the sea",
    ],
)
def test_lists_of_every_kind_are_read(reply):
    reading = READER.read(reply, "Write two prompts.")
    assert reading.texts == CATS
    assert reading.refused == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Sure! Here are two prompts about cats", "preamble"),
        ("Here's a list of what you wanted", "preamble"),
        ("I'm sorry, but I cannot help with that.", "refusal"),
        ("As an AI language model I have no eyes", "refusal"),
        ("USER: and now three dogs please", "chat_marker"),
        ("A cat <|im_start|>user and a dog", "chat_marker"),
        ("A cat with [IMG] two images", "chat_marker"),
        ("A <b>bold</b> cat on a mat", "markup"),
        ("A cat <script>alert(1)</script> on a mat", "markup"),
        ("A cat &amp; a dog in the grass", "markup"),
        ("Write two prompts about cats on tables", "echo"),
        ("A cat", "too_short"),
        (" ".join(f"w{n}" for n in range(40)), "too_long"),
        ("cat dog cat cat cat bird cat cat cat", "repetition"),
        ("A cat with \x1b[31m red ears", "invalid_text"),
        ("A cat with \ufffd\ufffd ears", "invalid_text"),
        ("A cat with half a \ud83d pair", "invalid_text"),
    ],
)
def test_a_line_that_cannot_be_used_is_refused_and_the_others_stay(line, reason):
    reading = READER.read(f"{CATS[0]}\n{line}\n{CATS[1]}", "Write two prompts about cats on tables.")
    assert reading.texts == CATS
    assert [one.reason for one in reading.refused] == [reason]


def test_a_hundred_thousand_words_are_one_refusal_and_no_memory():
    reading = READER.read("cat " * 100_000, "Write.")
    assert reading.texts == []
    assert [one.reason for one in reading.refused] == ["cut", "too_long"]
    assert all(len(one.line) <= 80 for one in reading.refused)
    lines = READER.read("A red cat on a table\n" * 20_000, "Write.")
    assert lines.texts == CATS[:1]
    assert {one.reason for one in lines.refused} == {"duplicate", "cut", "too_long"}
    assert len(lines.refused) < MOST_CHARACTERS / 20


@pytest.mark.parametrize("reply", ["", " \n\t\n", "```\n```", "<think>endless", "<|im_end|>", "[]", "{}"])
def test_nothing_is_a_refusal_too(reply):
    reading = READER.read(reply, "Write.")
    assert (reading.texts, [one.reason for one in reading.refused]) == ([], ["empty"])


def test_a_reply_that_was_cut_loses_its_last_line_alone():
    reading = READER.read("A red cat on a table\nTwo dogs near the", "Write.", cut=True)
    assert reading.texts == CATS[:1]
    assert [one.reason for one in reading.refused] == ["cut"]


def test_a_question_that_gives_the_prompt_away_is_refused():
    request = "A red cat on a table under a lamp"
    reply = f"{request}\nWhat does the prompt say about the cat?\nWhat color is the cat?\n<image><image> Where is it?"
    reading = QUESTION_READER.read(reply, request)
    assert reading.texts == ["What color is the cat?", "Where is it?"]
    assert [one.reason for one in reading.refused] == ["echo", "mentions_prompt"]
