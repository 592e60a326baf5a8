"""CHAIR and POPE against values worked out by hand."""

from collections import Counter

import pytest
from prefmill.micro.measure.hallucination import (
    POPE_STRATEGIES,
    chair,
    hallucinated_kinds,
    pope,
    pope_questions,
)
from prefmill.micro.world.scenes import TOPICS, Item, Scene, sample_scenes, topic_of

BALL_AND_CUP = Scene((Item(0, "ball", "red"), Item(3, "cup", "blue")), "gray")
TREE = Scene((Item(1, "tree", "green"),), "white")


def test_chair_by_hand():
    descriptions = [
        # two of three named objects are there, both objects are found
        "there is a red ball at top left and a blue cup at bottom right and a red kite at top right on gray .",
        # the only named object is absent, and what is there is missed
        "there is a green boat at top right on white .",
        # right
        "there is a green tree at top right on white .",
    ]
    found = chair(descriptions, [BALL_AND_CUP, TREE, TREE])
    assert found.chair_s == pytest.approx(2 / 3)
    assert found.chair_i == pytest.approx(2 / 5)
    assert found.object_recall == pytest.approx(3 / 4)


def test_denied_objects_are_not_hallucinated():
    assert hallucinated_kinds("there is a red ball and no kite .", BALL_AND_CUP) == []
    assert hallucinated_kinds("a kite and a kite", BALL_AND_CUP) == ["kite", "kite"]


def test_chair_of_silence():
    found = chair([""], [TREE])
    assert (found.chair_s, found.object_recall) == (0.0, 0.0)
    assert found.chair_i != found.chair_i


def test_pope_by_hand():
    answers = ["yes , there is a ball .", "yes .", "no , there is no cup .", "no .", "perhaps", "yes"]
    truths = [True, False, True, False, False, True]
    measured = pope(answers, truths)
    assert measured.accuracy == pytest.approx(3 / 6)
    assert measured.precision == pytest.approx(2 / 3)
    assert measured.recall == pytest.approx(2 / 3)
    assert measured.f1 == pytest.approx(2 / 3)
    assert measured.yes_ratio == pytest.approx(3 / 6)


def test_pope_that_never_says_yes():
    measured = pope(["no"] * 4, [True, True, False, False])
    assert (measured.accuracy, measured.recall, measured.f1, measured.yes_ratio) == (0.5, 0.0, 0.0, 0.0)
    assert measured.precision != measured.precision


@pytest.mark.parametrize("strategy", POPE_STRATEGIES)
def test_pope_questions_are_balanced_and_true(strategy):
    scenes = sample_scenes("dev", 50, 3)
    questions = pope_questions(scenes, strategy)
    assert len(questions) == 2 * sum(len(scene.items) for scene in scenes)
    for each in questions:
        assert each.truth == (each.question.subject in scenes[each.scene].kinds)
        assert each.question.text == f"is there a {each.question.subject} ?"
    assert sum(each.truth for each in questions) * 2 == len(questions)
    assert len({(each.scene, each.question.subject) for each in questions}) == len(questions)
    assert questions == pope_questions(scenes, strategy)


def test_adversarial_questions_ask_for_companions():
    """Of one object, the most likely company is another of its topic."""
    scenes = [scene for scene in sample_scenes("dev", 200, 4) if len(scene.items) == 1]
    for each in pope_questions(scenes, "adversarial"):
        assert topic_of(each.question.subject) == topic_of(scenes[each.scene].items[0].kind)
    spread = Counter(topic_of(each.question.subject) for each in pope_questions(scenes, "random") if not each.truth)
    assert set(spread) == set(TOPICS)


def test_popular_questions_ask_for_the_same_few():
    scenes = sample_scenes("dev", 100, 5)
    asked = Counter(each.question.subject for each in pope_questions(scenes, "popular") if not each.truth)
    assert sum(count for _, count in asked.most_common(4)) > 0.8 * asked.total()
