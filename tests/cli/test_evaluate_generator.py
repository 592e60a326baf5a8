"""What `prefmill eval generator` makes of its options, before anything is drawn."""

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.cli.evaluate_generator import _drawing_of, _judges, _numbers


def test_judges_take_their_checkpoints_and_the_oracle_needs_none():
    names, judges = _judges("imagereward, clip,oracle", ["clip=micro:clip"])
    assert names == ["imagereward", "clip", "oracle"]
    assert [(judge.scorer, judge.model) for judge in judges] == [
        ("imagereward", "THUDM/ImageReward"),
        ("clip", "micro:clip"),
    ]
    with pytest.raises(PrefmillError, match="no image scorer 'nobody'"):
        _judges("nobody", [])
    with pytest.raises(PrefmillError, match="names no checkpoint of a judge"):
        _judges("clip", ["blip=somewhere"])


def test_bands_are_numbers():
    assert _numbers("--tie", ["clip=0.01", "oracle=0"]) == {"clip": 0.01, "oracle": 0.0}
    with pytest.raises(PrefmillError, match="--tie clip holds no number"):
        _numbers("--tie", ["clip"])


def test_the_base_draws_as_a_recipe_says_that_fits_it():
    assert _drawing_of("someone/sd3", None)["generate"].steps == 28
    drawn = _drawing_of("micro:text-to-image", None)["generate"]
    assert (drawn.steps, drawn.t5_tokens) == (8, 0)
    assert _drawing_of(None, "tiny")["generate"].model == "random:text-to-image"
    with pytest.raises(PrefmillError, match="no base generator is named"):
        _drawing_of(None, None)
