"""Drawings that do not change by themselves: everything that was trained and measured is made of them."""

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
    assert digest == "6700b525213b6aa02d0d3e79ea9a334897545760886fc37e29c1ccfffc67c143"
    three = Scene((Item(0, "ball", "red"), Item(2, "boat", "blue"), Item(3, "knife", "green")), "gray")
    assert (
        hashlib.sha256(render(three, 5).tobytes()).hexdigest()
        == "ae93b89eb37ad81664cee71c41ace55ff7f4a28cd0cde23e7b645522608818a4"
    )
    assert (
        hashlib.sha256(render(three).tobytes()).hexdigest()
        == "cc7823e48bd582a9b536444067c9050864ec8d93c77c43a8e0837bb2ec1cc3c6"
    )
