"""Drawings that never change: everything that was trained and measured is made of them."""

import hashlib

import numpy as np
from prefmill.micro.world.render import BACKGROUND_VALUES, render
from prefmill.micro.world.scenes import COLOURS, KINDS, Item, Scene


def test_drawings_are_those_they_always_were():
    everything = [
        render(Scene((Item(number % 4, kind, colour),), ground), seed=number)
        for number, (kind, colour, ground) in enumerate(
            (kind, colour, ground) for kind in KINDS for colour in COLOURS for ground in BACKGROUND_VALUES
        )
    ]
    digest = hashlib.sha256(np.stack(everything).tobytes()).hexdigest()
    assert digest == "1ad35b294a1e6c76cb6fd1c701f3abac8b065bd1685cd400d278dfaf8b627611"
    three = Scene((Item(0, "ball", "red"), Item(2, "boat", "blue"), Item(3, "key", "green")), "gray")
    assert (
        hashlib.sha256(render(three, 5).tobytes()).hexdigest()
        == "e4659cf92aed22cf9ea318e29d6726876da0d9aa8a1be92f3d551d14de97f312"
    )
    assert (
        hashlib.sha256(render(three).tobytes()).hexdigest()
        == "adb7dab10053439bb63c8ff61c9c490896f683de9aa7a67884bfedef0438650b"
    )
