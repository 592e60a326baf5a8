"""The aspects of pictures made by hand, whose ratings are counted here on fingers."""

import itertools

import numpy as np
import pytest
from prefmill.engine.responders.image_ratings import ASPECTS
from prefmill.micro.teach.annotator_words import annotator_tokenizer
from prefmill.micro.world.aspects import (
    LOSSES,
    RUBRICS,
    aesthetic,
    aspect_ratings,
    fidelity,
    harmlessness,
    loss,
    overall,
    prompt_following,
    stands_out,
)
from prefmill.micro.world.oracle import Reading, read_images
from prefmill.micro.world.render import corrupt, render
from prefmill.micro.world.scenes import Item, Scene

BALL, BOAT, CAR = Item(0, "ball", "red"), Item(1, "boat", "orange"), Item(2, "car", "yellow")
ASKED = Scene((BALL, BOAT, CAR), "black")


@pytest.mark.parametrize(
    ("shown", "rating"),
    [
        (ASKED, 5),
        (Scene((BALL, BOAT), "black"), 4),  # 3 of 4
        (Scene((BALL, BOAT, Item(2, "car", "blue")), "black"), 4),  # 3 of 5
        (Scene((BALL, BOAT), "white"), 3),  # 2 of 4
        (Scene((BALL, Item(1, "cup", "red"), Item(2, "car", "blue")), "black"), 2),  # 2 of 6
        (Scene((), "black"), 1),  # 1 of 4
        (Scene((Item(3, "kite", "blue"),), "white"), 1),
    ],
)
def test_prompt_following_is_the_share_that_is_as_asked(shown, rating):
    assert prompt_following(ASKED, shown) == rating


@pytest.mark.parametrize(
    ("shown", "rating"),
    [
        (ASKED, 5),  # three things, all warm, none dark, on both sides
        (Scene((BALL, CAR), "black"), 4),  # both on the left
        (Scene((BALL, BOAT, CAR), "white"), 4),  # yellow on white
        (Scene((BALL, Item(1, "boat", "blue")), "black"), 4),  # warm and cool
        (Scene((Item(0, "ball", "blue"),), "black"), 3),  # alone
        (Scene((Item(0, "ball", "yellow"), Item(2, "car", "blue")), "white"), 2),
        (Scene((), "gray"), 1),
    ],
)
def test_aesthetic_counts_what_can_be_seen(shown, rating):
    assert aesthetic(shown) == rating


def test_what_stands_out_from_its_ground():
    pairs = itertools.product(("red", "orange", "yellow", "green"), ("white", "gray", "black"))
    dull = {pair for pair in pairs if not stands_out(*pair)}
    assert dull == {("yellow", "white"), ("orange", "gray"), ("green", "gray")}


def test_harmlessness_is_how_much_is_unsafe():
    knife, second = Item(0, "knife", "red"), Item(1, "knife", "blue")
    assert harmlessness(ASKED) == harmlessness(Scene((), "white")) == 5
    assert harmlessness(Scene((knife, BOAT, CAR), "white")) == 3
    assert harmlessness(Scene((knife, BOAT), "white")) == 2
    assert harmlessness(Scene((knife,), "white")) == harmlessness(Scene((knife, second, CAR), "white")) == 1


def test_fidelity_falls_with_noise_and_not_with_the_number_of_things():
    clean = render(ASKED, 3)
    [reading] = read_images(clean)
    assert loss(reading) == 0
    assert fidelity(reading) == 5
    noisy = [corrupt(clean, "noise", level, 1) for level in (10, 30, 60, 90)]
    ratings = [fidelity(each) for each in read_images(np.stack(noisy))]
    assert ratings == sorted(ratings, reverse=True)
    assert ratings[0] == 5
    assert ratings[-1] == 1
    # noise of the same strength, relative to what there is to see, is rated the same however much there is
    for scene in (ASKED, Scene((BALL,), "black")):
        residual = 1.01 * LOSSES[1] * float(render(scene).std())
        assert loss(Reading(scene, residual)) == pytest.approx(1.01 * LOSSES[1])
        assert fidelity(Reading(scene, residual)) == 3


def test_ratings_come_by_the_names_of_the_aspects():
    ratings = aspect_ratings(ASKED, Reading(ASKED, 0.0))
    assert ratings == dict.fromkeys(ASPECTS, 5)
    assert overall({**ratings, "harmlessness": 1}) == 4


def test_annotators_know_every_word_of_the_rubrics():
    words = annotator_tokenizer().get_vocab()
    for aspect in ASPECTS:
        asked = [word for word in RUBRICS[aspect].split() if word not in {",", "?"}]
        assert asked
        assert all(word in words for word in asked)
