"""What the image reward learns from: labels that are the oracle's, prompts of both outcomes, nothing of dev or test."""

import numpy as np
import torch
from prefmill.micro.checkpoints import checkpoint_folder
from prefmill.micro.teach.morphs import morph_candidates
from prefmill.micro.teach.preferences import GROUP, PreferenceStream, of_training_only, rendered_candidates
from prefmill.micro.world.candidates import open_generator
from prefmill.micro.world.language import caption, parse_caption
from prefmill.micro.world.oracle import judge, read_images
from prefmill.micro.world.scenes import COLOURS, KINDS, sample_scenes
from prefmill.micro.world.truth import UNKNOWN, UNKNOWN_CLASS, seen_there


def test_rendered_groups_show_the_scene_and_three_near_misses():
    pool = rendered_candidates(40, 0)
    readings = read_images(pool.images.reshape(-1, 32, 32, 3))
    shown = [scene for group in pool.shown for scene in group]
    # roughened renders are read right nearly always: the labels are those of the pictures
    assert np.mean([reading.scene == scene for reading, scene in zip(readings, shown, strict=True)]) > 0.97
    assert all(group[0] == scene for group, scene in zip(pool.shown, pool.scenes, strict=True))
    assert all(scene not in group[1:] for group, scene in zip(pool.shown, pool.scenes, strict=True))
    assert {scene.split for scene in shown} == {"train"}
    assert (pool.exact == (pool.alignment == 1)).all()


def test_morphs_are_judged_and_lie_between_right_and_wrong():
    vae = open_generator(checkpoint_folder("text-to-image")).autoencoder
    scenes = sample_scenes("train", 60, 3)
    pool = morph_candidates(vae, scenes, 1)
    assert pool.images.shape == (60, 4, 32, 32, 3)
    verdicts = judge(pool.images.reshape(-1, 32, 32, 3), [scene for scene in scenes for _ in range(4)])
    assert [verdict.exact for verdict in verdicts] == pool.exact.flatten().tolist()
    assert 0.4 < pool.exact.mean() < 0.8
    mixed = pool.exact.any(1) & ~pool.exact.all(1)
    assert mixed.mean() > 0.5, "most groups must have something to tell apart"
    again = morph_candidates(vae, scenes, 1)
    assert (again.images == pool.images).all()
    kept = of_training_only(pool)
    assert all(not scene.items or scene.split == "train" for group in kept.shown for scene in group)
    assert 0 < len(kept.scenes) < 60


def test_prompts_are_asked_shown_and_near_and_their_labels_are_true():
    pool = rendered_candidates(40, 0)
    stream = PreferenceStream(pool, 0)
    batch = stream.batch(200)
    assert torch.equal(batch.rows.view(-1, GROUP)[:, 0] % GROUP, torch.zeros(200, dtype=torch.long))
    first = 0
    for number in range(200):
        rows = batch.rows[number * GROUP : (number + 1) * GROUP].tolist()
        asked = parse_caption(batch.prompts[number * GROUP])
        assert asked is not None
        assert asked.split == "train"
        first += asked == stream.shown[rows[0]]
        for place, row in enumerate(rows):
            assert (batch.alignment[number, place] == 1) == (asked == stream.shown[row])
            known = batch.words[number * GROUP + place]
            known = known[known != UNKNOWN]
            assert bool((known == 1).all()) == bool(
                set(asked.items) <= set(stream.shown[row].items) and asked.background == stream.shown[row].background
            )
    assert 0.3 < first / 200 < 0.7, "the picture that the group was made for is not always the right one"


def test_what_is_seen_is_said_at_the_words_that_ask_for_it():
    asked = parse_caption("a red ball at top left and a blue boat at bottom right on gray")
    shown = parse_caption("a green ball at top left and a blue cup at top right on gray")
    assert asked is not None
    assert shown is not None
    kinds, colours = seen_there(asked, shown, 24)
    words = ["[CLS]", *caption(asked).split()]
    said = {words[place]: int(kind) for place, kind in enumerate(kinds) if kind != UNKNOWN_CLASS}
    assert said == {"ball": 1 + KINDS.index("ball"), "boat": 0}
    said = {words[place]: int(colour) for place, colour in enumerate(colours) if colour != UNKNOWN_CLASS}
    assert said == {"red": 1 + COLOURS.index("green"), "blue": 0}
