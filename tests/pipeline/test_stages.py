"""Stages by themselves: what an actor pool calls, and what each does with what can go wrong in a row."""

import io
import math
import pickle
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.engine.images import encode_image
from prefmill.engine.scorers.catalogue import IMAGE_SCORERS, ScorerEntry
from prefmill.engine.sd3.text_to_image import Generated
from prefmill.engine.settings import EngineSettings, Sampling
from prefmill.pipeline.execute.local import run_task
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.pair_policy import JudgedAnswer
from prefmill.pipeline.records import Candidate, Instruction, Prompt, Reject, Response, Selection
from prefmill.pipeline.sources import ChosenImage, Contest, ImageQuestion, ListSource, Panel, PromptedImage
from prefmill.pipeline.stage import Task
from prefmill.pipeline.stages.answer import AnswerStage, ResponderConfig
from prefmill.pipeline.stages.generate import GenerateConfig, GenerateStage
from prefmill.pipeline.stages.instruct import InstructConfig, InstructStage
from prefmill.pipeline.stages.judge import JudgeConfig, JudgeStage
from prefmill.pipeline.stages.score import ScoreConfig, ScoreStage
from prefmill.pipeline.stages.select import SelectConfig, SelectStage
from prefmill.pipeline.store import Run

CPU = EngineSettings(device="cpu")
PROMPTS = [Prompt(f"p{number}", number, f"scene {number}", f"file:{number}") for number in (1, 2, 3)]
PICTURE = encode_image(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def generate(cache):
    return GenerateStage(GenerateConfig(model="random:text-to-image", steps=2), CPU)


def test_an_actor_pool_gets_what_the_local_executor_commits(generate, tmp_path):
    """Ray Data pickles the class with its arguments and calls the instance on batches: the rows are the same."""
    stage_class, config, settings = pickle.loads(pickle.dumps((GenerateStage, generate.config, CPU)))
    called = stage_class(config, settings)(PROMPTS[:2]) + stage_class(config, settings)(PROMPTS[2:])
    task = Task("candidates", Candidate, lambda: ListSource(PROMPTS, ["1", "2", "3"]), lambda: generate, 2)
    with Run.writing(tmp_path) as run:
        run_task(run, task, ExecutorConfig(), Progress())
        assert list(run.dataset("candidates", Candidate)) == called


def test_images_that_failed_are_rejected_with_their_prompt_and_seed(generate, monkeypatch):
    def failing(prompts, *_, width, height, **__):
        images = torch.randint(0, 255, (len(prompts), height, width, 3), dtype=torch.uint8)
        return Generated(images, ["nan", None, "constant", None])

    monkeypatch.setattr(generate.engine, "generate", failing)
    rows: list[Any] = generate(PROMPTS[:1])
    assert [row.reason if isinstance(row, Reject) else row.guidance for row in rows] == [
        "nan_image",
        7.0,
        "constant_image",
        11.0,
    ]
    assert "guidance 5.0, seed 1001" in rows[0].detail


def test_scoring_rejects_what_it_cannot_see_and_scores_the_rest(cache):
    stage = ScoreStage(ScoreConfig(model="random:image-reward"), CPU)
    rows: list[Any] = stage(
        [
            PromptedImage("c1", PICTURE, "a kite"),
            PromptedImage("c2", b"not an image", "a kite"),
            PromptedImage("c3", PICTURE, None),
            PromptedImage("c4", PICTURE, " ".join(["kite"] * 100)),
        ]
    )
    found = {row.subject_id: row.reason if isinstance(row, Reject) else row.truncated for row in rows}
    assert found == {"c1": False, "c2": "image_unreadable", "c3": "no_prompt", "c4": True}


def test_selection_takes_the_best_and_the_first_of_equals():
    stage = SelectStage(SelectConfig(minimum_score=0.5))
    rows: list[Any] = stage(
        [
            Contest("p1", (("a", 0.6), ("b", 0.9), ("c", 0.9))),
            Contest("p2", (("d", 0.1),)),
            Contest("p3", ()),
            Contest("p4", (("e", 0.5),)),
        ]
    )
    assert rows[0] == Selection("p1", "b", 0.9, 0.0)
    assert [(row.subject_id, row.reason) for row in rows[1:3]] == [("p2", "below_minimum"), ("p3", "no_image")]
    assert rows[3] == Selection("p4", "e", 0.5, None)


def test_instructions_come_from_the_first_way_that_has_one(cache):
    own = Prompt("p1", 1, "a {curly} kite", "s", "toys", ("What is it?", "How many?"))
    bare = Prompt("p2", 2, "a {curly} kite", "s", "toys")
    items = [ChosenImage(Selection(prompt.id, f"i{prompt.index}", 1.0), prompt) for prompt in (own, bare)]
    templates = ("Describe {prompt} among {topic}.",)
    rows: list[Any] = InstructStage(InstructConfig(templates=templates), CPU)(items)
    assert [(row.text, row.source) for row in rows] == [
        ("What is it?", "field"),
        ("How many?", "field"),
        ("Describe a {curly} kite among toys.", "template"),
    ]
    several = InstructConfig(order=("template",), templates=("a", "b", "c", "{topic}"), per_image=3)
    rows = InstructStage(several, CPU)(items)
    assert [row.image_id for row in rows] == ["i1"] * 3 + ["i2"] * 3
    assert all(len({row.text for row in rows if row.image_id == image}) == 3 for image in ("i1", "i2"))
    only_field = InstructStage(InstructConfig(order=("field",)), CPU)(items)
    assert only_field[2] == Reject("i2", "instructions", "no_instruction", "none of field gave a text")


def test_a_row_is_answered_the_same_alone_and_beside_others(cache):
    sampling = Sampling(max_new_tokens=12, temperature=1.0)
    stage = AnswerStage(ResponderConfig(name="a", model="random:responder-a", sampling=sampling), CPU)
    questions = [
        ImageQuestion(Instruction(f"i{n}", f"c{n}", "Describe " + "it " * n, "field"), PICTURE) for n in range(4)
    ]
    together = {row.instruction_id: row for row in stage(questions) if isinstance(row, Response)}
    assert len({row.text for row in together.values()}) > 1
    for question in questions:
        [alone] = stage([question])
        if isinstance(alone, Response):
            assert alone == together[alone.instruction_id]
    broken: list[Any] = stage([ImageQuestion(questions[0].instruction, b"")])
    assert [(row.subject_id, row.reason) for row in broken] == [("i0", "image_empty")]


def test_the_judge_reads_the_cleaned_answer_and_the_context_it_is_given(cache, monkeypatch):
    seen = []

    def panel_of(stage):
        real = stage.engine.score

        def spy(prompts, responses):
            seen.append((list(prompts), list(responses)))
            return real(prompts, responses)

        monkeypatch.setattr(stage.engine, "score", spy)
        texts = ("What is it? A kite.", "what is  IT?", "A boat.")
        answers = [JudgedAnswer(Response(f"r{n}", "c", "i", "m", text), None) for n, text in enumerate(texts)]
        return stage([Panel(Instruction("i", "c", "What is it?", "field"), tuple(answers), "a red kite")])

    rows: list[Any] = panel_of(JudgeStage(JudgeConfig(model="random:text-reward"), CPU))
    assert seen == [(["What is it?"] * 2, ["A kite.", "A boat."])]
    assert rows[0] == Reject("r1", "response_scores", "empty", "nothing to judge")
    assert [row.subject_id for row in rows[1:]] == ["r0", "r2"]
    assert len(rows[1].attributes) == 19
    panel_of(JudgeStage(JudgeConfig(model="random:text-reward", context="prompt"), CPU))
    assert seen[1][0] == ["a red kite\nWhat is it?"] * 2


class Broken:
    """A scorer whose arithmetic overflows on the second row."""

    key = "broken@1"

    def preprocess(self, images):
        return torch.zeros(len(images), 3, 2, 2)

    def score(self, first, second):
        values = torch.tensor([0.5, math.nan, math.inf, 1.5])[: len(second)]
        attributes = torch.zeros(len(second), 19)
        return SimpleNamespace(
            values=values, scores=values, attributes=attributes, truncated=[False] * len(second), parts={}
        )


def test_a_score_that_is_no_number_costs_its_row_and_not_the_run(cache, monkeypatch):
    stage = ScoreStage(ScoreConfig(model="random:image-reward"), CPU)
    monkeypatch.setattr(stage, "engine", Broken())
    rows: list[Any] = stage([PromptedImage(f"c{number}", PICTURE, "a kite") for number in range(4)])
    assert [row.reason if isinstance(row, Reject) else row.value for row in rows] == [
        0.5,
        "not_finite",
        "not_finite",
        1.5,
    ]
    judge = JudgeStage(JudgeConfig(model="random:text-reward"), CPU)
    monkeypatch.setattr(judge, "engine", Broken())
    answers = tuple(JudgedAnswer(Response(f"r{n}", "c", "i", "m", f"answer {n}"), None) for n in range(4))
    rows = judge([Panel(Instruction("i", "c", "What is it?", "field"), answers)])
    assert [(row.subject_id, isinstance(row, Reject)) for row in rows] == [
        ("r0", False),
        ("r1", True),
        ("r2", True),
        ("r3", False),
    ]


def test_an_image_of_too_many_pixels_is_a_reject_of_its_row_everywhere(cache):
    """100,000 x 2,000 pixels in a kilobyte of file: named by its header, never decoded."""
    buffer = io.BytesIO()
    Image.new("1", (100_000, 2_000)).save(buffer, "PNG")
    scored: list[Any] = ScoreStage(ScoreConfig(model="random:image-reward"), CPU)(
        [PromptedImage("huge", buffer.getvalue(), "a kite"), PromptedImage("good", PICTURE, "a kite")]
    )
    assert [(row.subject_id, getattr(row, "reason", "")) for row in scored] == [
        ("huge", "image_too_large"),
        ("good", ""),
    ]
    answer = AnswerStage(ResponderConfig(name="a", model="random:responder-a"), CPU)
    answered: list[Any] = answer([ImageQuestion(Instruction("i", "huge", "What?", "field"), buffer.getvalue())])
    assert [row.reason for row in answered] == ["image_too_large"]


def test_an_image_that_no_tower_can_be_fed_is_a_reject(cache, monkeypatch):
    """A strip of 3,000,000 x 2 pixels would become 330 million pixels wide at the tower's height."""
    buffer = io.BytesIO()
    Image.new("1", (3_000_000, 2)).save(buffer, "PNG")
    stage = ScoreStage(ScoreConfig(model="random:image-reward"), CPU)
    rows: list[Any] = stage(
        [PromptedImage("strip", buffer.getvalue(), "a kite"), PromptedImage("good", PICTURE, "a kite")]
    )
    assert [row.subject_id for row in rows if not isinstance(row, Reject)] == ["good"]


def test_the_scorer_is_chosen_by_its_name_with_its_own_checkpoint(cache, tmp_path):
    assert ScoreConfig().model == "THUDM/ImageReward"
    assert ScoreConfig(scorer="clip").model == "openai/clip-vit-large-patch14"
    assert ScoreConfig(scorer="clip", model="mine").model == "mine"
    with pytest.raises(ValueError, match="there is no image scorer 'clap': choose one of imagereward, clip"):
        ScoreConfig(scorer="clap")
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        entry = ScorerEntry("mine/own", "brightness", lambda source, settings: cast(Any, Broken()))
        patch.setitem(IMAGE_SCORERS, "brightness", entry)
        config = ScoreConfig(scorer="brightness")
        assert config.model == "mine/own"
        assert ScoreStage(config, CPU).model_keys == ("broken@1",)


def test_a_responders_backend_is_known_or_named(cache):
    with pytest.raises(PrefmillError, match=r"no responder backend 'abacus'"):
        AnswerStage(ResponderConfig(name="a", model="random:responder-a", backend="abacus"), CPU)


def test_the_image_marker_of_training_data_is_no_part_of_an_instruction():
    prompt = Prompt("p1", 1, "a kite", "s", None, ("<image>\nWhat is it?", "How many?\n<image>", "<image>"))
    rows: list[Any] = InstructStage(InstructConfig(), CPU)([ChosenImage(Selection("p1", "i1", 1.0), prompt)])
    assert [row.text for row in rows] == ["What is it?", "How many?"]


@pytest.mark.parametrize(("seeds", "moves"), [("paper", True), ("same", True), ("id", False)])
def test_whether_a_prompt_on_another_line_is_another_candidate(cache, seeds, moves):
    stage = GenerateStage(GenerateConfig(model="random:text-to-image", steps=1, guidance=(5.0,), seeds=seeds), CPU)
    first, moved = (stage([Prompt("p", index, "a kite", "s")]) for index in (1, 2))
    identities = [[row.id for row in rows if isinstance(row, Candidate)] for rows in (first, moved)]
    assert (identities[0] != identities[1]) == moves
