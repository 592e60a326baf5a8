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
    assert digest == "202b95397b92ec7f159a7105b4a74d4b88bfd80a2350f08caa9d6b6828fc0b8a"
    three = Scene((Item(0, "ball", "red"), Item(2, "boat", "blue"), Item(3, "knife", "green")), "gray")
    assert (
        hashlib.sha256(render(three, 5).tobytes()).hexdigest()
        == "ca82d4ad634ef8a48f1d06fc5e152dbd0370caff90286ec547209986972ffbc1"
    )
    assert (
        hashlib.sha256(render(three).tobytes()).hexdigest()
        == "4b5c8fa8aed428bc6bb53a07e176f52582b32d267251f1a7d459bdb2f24834c5"
    )
