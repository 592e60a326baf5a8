"""The world's English: texts and scenes there and back, and what a description mentions."""

import numpy as np
import pytest
from prefmill.micro.world.language import (
    WORDS,
    Mention,
    caption,
    color_question,
    count_question,
    describe,
    describe_instruction,
    mentioned_kinds,
    mentions,
    parse_caption,
    present_question,
    said_color,
    said_count,
    says_yes,
    true_answer,
)
from prefmill.micro.world.scenes import KINDS, Item, Scene, draw_scene

SCENE = Scene((Item(0, "ball", "red"), Item(3, "boat", "orange")), "gray")


@pytest.fixture(scope="module")
def scenes():
    random = np.random.default_rng(5)
    return [draw_scene(random) for _ in range(3000)]


def test_wording():
    assert caption(SCENE) == "a red ball at top left and an orange boat at bottom right on gray"
    assert describe(SCENE) == "there is a red ball at top left and an orange boat at bottom right on gray ."


def test_captions_and_descriptions_come_back_as_their_scene(scenes):
    for scene in scenes:
        assert parse_caption(caption(scene)) == scene
        assert parse_caption(describe(scene)) == scene


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a nice day",
        "a red ball at top left",
        "a red ball on gray",
        "a ball at top left on gray",
        "a red ball at top left and a blue ball at top right on gray",
        "a red ball at top left and a blue boat at top left on gray",
    ],
)
def test_incomplete_texts_are_no_scene(text):
    assert parse_caption(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There is a red ball at top left .", [Mention("ball", "red", 0)]),
        ("a boat, and two cups", [Mention("boat"), Mention("cup")]),
        ("there is no boat but a car", [Mention("car")]),
        ("there is no red boat .", []),
        ("not a knife", []),
        ("the ball is in the bottom right", [Mention("ball", None, 3)]),
        ("a keyboard on a sailboat", []),
        ("a red ball and a red ball", [Mention("ball", "red"), Mention("ball", "red")]),
    ],
)
def test_mentions(text, expected):
    assert mentions(text) == expected


def test_descriptions_mention_exactly_what_is_there(scenes):
    for scene in scenes:
        assert mentioned_kinds(describe(scene)) == scene.kinds


def test_true_answers_say_the_truth(scenes):
    for scene in scenes[:500]:
        for kind in KINDS:
            answer = true_answer(scene, present_question(kind))
            assert says_yes(answer) == (kind in scene.kinds)
            assert mentioned_kinds(answer) == ({kind} & scene.kinds)
        for item in scene.items:
            assert said_color(true_answer(scene, color_question(item.kind))) == item.colour
        assert said_count(true_answer(scene, count_question())) == len(scene.items)
        assert true_answer(scene, describe_instruction(1)) == describe(scene)


def test_answers_without_a_verdict():
    assert says_yes("a boat") is None
    assert says_yes("") is None
    assert said_color("a boat") is None
    assert said_count("a boat") is None
    assert true_answer(SCENE, color_question("knife")) == "there is no knife ."


def test_every_text_is_made_of_the_words(scenes):
    texts = [caption(scenes[0]), *(describe_instruction(number).text for number in range(4)), count_question().text]
    for scene in scenes[:300]:
        texts += [caption(scene), describe(scene), true_answer(scene, count_question())]
        for kind in KINDS:
            texts += [present_question(kind).text, color_question(kind).text]
            texts += [true_answer(scene, present_question(kind)), true_answer(scene, color_question(kind))]
    used = {word for text in texts for word in text.split()} - {".", ",", "?"}
    assert used <= set(WORDS)
