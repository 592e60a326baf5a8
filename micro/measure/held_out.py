"""The scenes that a run on the micro world asks for, those it is evaluated on, and its prompt file.

Both come from one split that no training saw, and they have no combination of objects in common: an evaluated scene is
never a rearrangement of one that the preferences were about.
"""

import json
from collections.abc import Sequence

import numpy as np

from ...base.errors import PrefmillError
from ..teach.lessons import mixed_questions
from ..world.language import caption
from ..world.scenes import Scene, Split, sample_scenes

QUESTIONS = 8
"""Instructions per image: a description, and yes/no questions about all that was asked for, and about as much or more
that was not."""


def held_out_scenes(split: Split, asked: int, evaluated: int, seed: int) -> tuple[list[Scene], list[Scene]]:
    """Return the prompts' scenes and the evaluation's. Raises PrefmillError where the split has not as many."""
    scenes = sample_scenes(split, 3 * (asked + evaluated), seed)
    prompts = scenes[:asked]
    used = {scene.combination for scene in prompts}
    others = [scene for scene in scenes[asked:] if scene.combination not in used][:evaluated]
    if len(others) < evaluated:
        raise PrefmillError(f"{split} has only {len(others)} other scenes for {asked} prompts", "ask for fewer")
    return prompts, others


def prompt_lines(scenes: Sequence[Scene], seed: int) -> str:
    """Return a prompt file (JSON lines) that asks for the scenes, with topics and instructions."""
    random = np.random.default_rng([seed, 3])
    rows = [
        {
            "text": caption(scene),
            "topic": scene.topic,
            "instruction": [question.text for question in mixed_questions(scene, QUESTIONS, random)],
        }
        for scene in scenes
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)
