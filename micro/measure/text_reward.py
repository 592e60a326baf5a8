"""How often the trained text reward ranks two answers rightly, by the kind of flaw that one of them has."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from ...engine.scorers.text_reward import TextReward
from ...engine.settings import EngineSettings
from ...engine.text import judge_prompt
from ..teach.lessons import description_with, invented_item
from ..teach.rated_answers import FLAWS, flawed_answer
from ..teach.rating import rate
from ..teach.reward_lessons import random_question
from ..world.language import Question, caption, describe_instruction, true_answer
from ..world.scenes import Scene, Split, sample_scenes

_SCENES, _QUICK_SCENES = 300, 60
_LEAST_DIFFERENCE = 0.02


def measure_text_reward(folder: Path, split: Split = "dev", *, quick: bool = False) -> dict[str, float]:
    """The share of pairs (true answer, flawed answer) about scenes of a split that are ranked rightly, 0 to 1.

    `pair_accuracy` is over all, `companion` over descriptions with an invented companion, the others over one flaw
    or wrong short answers.
    """
    reward = TextReward.from_pretrained(str(folder), EngineSettings(device="cpu", dtype="float32"))
    random = np.random.default_rng(0)
    prompts: list[str] = []
    better: list[str] = []
    worse: list[str] = []
    flaws: list[str] = []
    for scene in sample_scenes(split, _QUICK_SCENES if quick else _SCENES, 0):
        for flaw, question, flawed in _flawed(scene, random):
            prompts.append(judge_prompt(caption(scene), question.text))
            better.append(true_answer(scene, question))
            worse.append(flawed)
            flaws.append(flaw)
    wins = reward.score(prompts, better).scores > reward.score(prompts, worse).scores
    by_flaw: dict[str, list[bool]] = defaultdict(list)
    for flaw, win in zip(flaws, wins.tolist(), strict=True):
        by_flaw["pair_accuracy"].append(win)
        by_flaw[flaw].append(win)
    return {flaw: round(sum(won) / len(won), 4) for flaw, won in by_flaw.items()}


def _flawed(scene: Scene, random: np.random.Generator) -> list[tuple[str, Question, str]]:
    """Name of the flaw, question, flawed answer."""
    found = []
    extra = invented_item(scene, random)
    if extra:
        found.append(("companion", describe_instruction(int(random.integers(4))), description_with(scene, extra)))
    for flaw in FLAWS:
        if flaw != "incomplete" or len(scene.items) > 1:
            question = random_question(scene, "describe", random)
            found.append((flaw, question, _worse_answer(scene, question, flaw, random)))
    for kind in ("present", "present", "color", "count"):
        question = random_question(scene, kind, random)
        found.append((f"wrong_{kind}", question, _worse_answer(scene, question, "exchanged", random)))
        found.append((f"garbled_{kind}", question, _worse_answer(scene, question, "garbled", random)))
    return found


def _worse_answer(scene: Scene, question: Question, flaw: str, random: np.random.Generator) -> str:
    """Garbling may leave a text as it is: try until it is worse."""
    while True:
        answer = flawed_answer(scene, question, flaw, random)
        if rate(scene, question, answer).quality < 1 - _LEAST_DIFFERENCE:
            return answer
