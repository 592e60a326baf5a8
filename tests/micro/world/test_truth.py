"""What is true of an image, word by word."""

from prefmill.micro.world.language import caption
from prefmill.micro.world.scenes import Item, Scene
from prefmill.micro.world.truth import UNKNOWN, word_truth

SCENE = Scene((Item(0, "ball", "red"), Item(3, "boat", "orange")), "gray")


def test_word_truth_points_at_the_words_it_judges():
    tokens = ["[CLS]", *caption(SCENE).split()]
    shown = Scene((Item(0, "ball", "green"), Item(3, "boat", "orange")), "black")
    truth = word_truth(SCENE, shown, 24)
    judged = [(tokens[place], bool(value)) for place, value in enumerate(truth) if value != UNKNOWN]
    assert judged == [
        ("red", False),
        ("ball", True),
        ("left", False),
        ("orange", True),
        ("boat", True),
        ("right", True),
        ("gray", False),
    ]
