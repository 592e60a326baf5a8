"""Prompts and evaluation share no combination, and every image is asked about what is there and what is not."""

import json

import pytest
from prefmill.micro.measure.held_out import QUESTIONS, held_out_scenes, prompt_lines
from prefmill.micro.world.language import caption, parse_caption


@pytest.mark.parametrize("seed", [0, 1])
def test_prompts_and_evaluation_are_apart(seed):
    asked, evaluated = held_out_scenes("test", 240, 200, seed)
    assert (len(asked), len(evaluated)) == (240, 200)
    assert {scene.split for scene in asked + evaluated} == {"test"}
    assert not {scene.combination for scene in asked} & {scene.combination for scene in evaluated}
    assert len(set(asked)) == 240


def test_questions_are_about_both_what_is_asked_for_and_what_is_not():
    asked, _ = held_out_scenes("test", 100, 0, 1)
    rows = [json.loads(line) for line in prompt_lines(asked, 1).splitlines()]
    assert [row["text"] for row in rows] == [caption(scene) for scene in asked]
    there = absent = 0
    for row, scene in zip(rows, asked, strict=True):
        assert parse_caption(row["text"]) == scene
        assert len(row["instruction"]) == len(set(row["instruction"])) == QUESTIONS
        kinds = [text.split()[-2] for text in row["instruction"][1:]]
        there += sum(kind in scene.kinds for kind in kinds)
        absent += sum(kind not in scene.kinds for kind in kinds)
    assert 0.28 < there / (there + absent) < 0.4
