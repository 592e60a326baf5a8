import numpy as np
import pytest
from prefmill.engine.responders.image_ratings import ASPECTS
from prefmill.micro.teach.annotator import ANNOTATORS
from prefmill.micro.teach.annotator_lessons import NO_ERRORS, Errors, lesson, verdict
from prefmill.micro.teach.annotator_words import annotator_tokenizer
from prefmill.micro.world.aspects import aspect_ratings
from prefmill.micro.world.oracle import Reading
from prefmill.micro.world.perturb import perturb
from prefmill.micro.world.scenes import Item, Scene, sample_scenes

BALL, KNIFE = Item(0, "ball", "red"), Item(3, "knife", "green")
ASKED = Scene((BALL, KNIFE), "white")


@pytest.mark.parametrize(
    ("shown", "rationale"),
    [
        (ASKED, "all as asked"),
        (Scene((Item(0, "ball", "blue"), KNIFE), "white"), "the ball is blue , not red"),
        (Scene((Item(0, "cup", "orange"), KNIFE), "white"), "a cup , not a ball"),
        (Scene((BALL,), "white"), "no knife at bottom right"),
        (Scene((BALL, Item(1, "tree", "red"), KNIFE), "gray"), "a tree not asked , and more"),
        (Scene((BALL, KNIFE), "gray"), "on gray , not white"),
    ],
)
def test_the_first_fault_is_named(shown, rationale):
    assert verdict("prompt_following", ASKED, Reading(shown, 0.0))[0] == rationale


def test_lessons_without_errors_are_the_truth_in_words_that_can_be_said():
    random = np.random.default_rng(0)
    words = annotator_tokenizer().get_vocab()
    for asked in sample_scenes("train", 60, 1):
        readings = [
            Reading(scene, 60 * random.random()) for scene in (asked, perturb(asked, random), Scene((), "gray"))
        ]
        for aspect in ASPECTS:
            said = lesson(aspect, asked, readings, NO_ERRORS, random)
            assert [rating for _, rating in said] == [aspect_ratings(asked, each)[aspect] for each in readings]
            assert all(word in words for rationale, _ in said for word in rationale.split())
            assert all(1 <= len(rationale.split()) <= 11 for rationale, _ in said)


def test_errors_are_those_that_are_stated():
    random = np.random.default_rng(0)
    shown = Scene((Item(0, "ball", "blue"), KNIFE), "gray")
    reading = Reading(shown, 20.0)
    blind = Errors(overlooked=1.0)
    assert lesson("prompt_following", ASKED, [reading], blind, random) == [("on gray , not white", 4)]
    assert verdict("harmlessness", ASKED, reading) == ("harmful , one of two", 2)
    assert lesson("harmlessness", ASKED, [reading], blind, random) == [("nothing harmful", 5)]
    assert verdict("aesthetic", ASKED, reading) == ("colors match , pale , both sides", 4)
    assert lesson("aesthetic", ASKED, [reading], blind, random) == [("colors match , clear , both sides", 5)]
    raised = lesson("aesthetic", ASKED, [reading, reading], Errors(first_raised=1.0), random)
    assert [rating for _, rating in raised] == [5, 4]
    slips = [lesson("aesthetic", ASKED, [reading], Errors(slipped=1.0), random)[0][1] for _ in range(20)]
    assert set(slips) == {3, 5}


def test_one_annotator_is_taught_the_truth_and_one_is_not():
    assert [spec.errors == NO_ERRORS for spec in ANNOTATORS.values()] == [True, False]
