"""The instruct stage: four ways, several instructions an image, and what a model may write."""

from typing import Any

import pytest
from prefmill.base.progress import Progress
from prefmill.engine.responders.interface import Failure
from prefmill.engine.settings import EngineSettings
from prefmill.pipeline.execute.local import run_task
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.records import Instruction, Prompt, Reject, Selection
from prefmill.pipeline.sources import ChosenImage, ListSource
from prefmill.pipeline.stage import Task
from prefmill.pipeline.stages.instruct import STAGE, InstructConfig, InstructStage
from prefmill.pipeline.store import Run
from prefmill.pipeline.usage import Usage
from pydantic import ValidationError

CPU = EngineSettings(device="cpu")
PROMPTS = [
    Prompt("p1", 1, "A red fox beside a frozen lake", "s", "animal", ("What is it?", "<image> Where?")),
    Prompt("p2", 2, "A blue boat in a small harbor", "s", "urban"),
    Prompt("p3", 3, "A green kite above a sandy beach", "s"),
]
ITEMS = [ChosenImage(Selection(prompt.id, f"i{prompt.index}", 1.0), prompt) for prompt in PROMPTS]


def model(**changes):
    values = {"order": ("field", "model", "grammar"), "model": "m", "backend": "scripted", "per_image": 2}
    return InstructConfig(**(values | changes))


def test_a_model_writes_several_instructions_and_the_next_way_serves_what_it_cannot(tmp_path, scripted):
    def script(request):
        if "green kite" in request.text:
            return Failure("server", "status 500")
        return "Here are two questions:\n1. <image> What color is the boat?\n2. Which mood is it?\n3. And who rows?"

    scripted.say(script)
    stage = InstructStage(model(), CPU)
    stage.keep_in(tmp_path)
    rows: list[Any] = stage(ITEMS)
    assert [(row.image_id, row.text, row.source) for row in rows if isinstance(row, Instruction)][:4] == [
        ("i1", "What is it?", "field"),
        ("i1", "Where?", "field"),
        ("i2", "What color is the boat?", "model"),
        ("i2", "Which mood is it?", "model"),
    ]
    assert [row.source for row in rows if row.__class__ is Instruction][4:] == ["grammar", "grammar"]
    rejects = [row for row in rows if isinstance(row, Reject)]
    assert [(row.reason, row.detail) for row in rejects] == [
        ("preamble", "Here are two questions:"),
        ("surplus", "And who rows?"),
        ("server", "status 500"),
    ]
    assert stage.outcome == ("1 images got nothing by model: by grammar instead",)
    assert stage.take_usage() == Usage(2, 1, 0, 20, 0.0, 0.0, 0.5)
    assert stage.take_usage() is None
    assert scripted.last.folder == tmp_path
    assert len(set(scripted.last.asked[0])) == 2
    stage.close()
    assert scripted.last.closed


def test_no_way_is_a_reject_and_fewer_than_asked_is_said(scripted):
    scripted.say(lambda request: "What color is the boat?" if "boat" in request.text else "")
    stage = InstructStage(model(order=("model",)), CPU)
    rows: list[Any] = stage(ITEMS[1:])
    assert rows[0].text == "What color is the boat?"
    assert rows[1] == Reject("i3", "instructions", "no_instruction", "none of model gave a text")
    assert rows[2].reason == "empty"
    assert stage.outcome == ("1 images got fewer than 2 instructions from the model",)


@pytest.mark.parametrize(
    "reply", ["<image>" * 3, "<ima<image>ge> What is it here?", "cat " * 100_000, "\ud83d", "\x1b[2J"]
)
def test_no_instruction_carries_an_image_token_or_junk(scripted, reply):
    scripted.say(lambda request: reply)
    rows: list[Any] = InstructStage(model(order=("model", "template")), CPU)(ITEMS[1:2])
    texts = [row.text for row in rows if isinstance(row, Instruction)]
    assert len(texts) == 1
    assert "<image>" not in texts[0]
    assert len(texts[0]) < 200
    assert all(len(row.detail) < 200 for row in rows if isinstance(row, Reject))


def test_the_built_in_writer_needs_no_model_and_depends_on_the_image_alone():
    config = InstructConfig(order=("grammar",), per_image=3)
    rows: list[Any] = InstructStage(config, CPU)(ITEMS)
    assert rows[3:6] == InstructStage(config, CPU)(ITEMS[1:2])
    assert len({row.text for row in rows}) == 9
    assert {row.source for row in rows} == {"grammar"}


def test_fallbacks_and_costs_are_in_the_manifest(tmp_path, scripted):
    scripted.say(lambda request: "no")
    source = ListSource(ITEMS, ["1", "2", "3"])
    task = Task("instructions", Instruction, lambda: source, lambda: InstructStage(model(), CPU), 2)
    with Run.writing(tmp_path) as run:
        run_task(run, task, ExecutorConfig(), Progress())
        manifest = run.manifest("instructions")
    assert "2 images got nothing by model: by grammar instead" in str(manifest)
    assert manifest["usage"]["requests"] == 2
    assert manifest["rejects"] == {"too_short": 2}


def test_what_runs_the_model_and_what_the_wording_says_are_in_the_fingerprint(tmp_path, scripted):
    assert STAGE.runtime(InstructConfig()) == ""
    first = STAGE.runtime(model())
    assert first.startswith("scripted-1 wording-")
    scripted.version = "2"
    assert STAGE.runtime(model()).startswith("scripted-2 ")
    (tmp_path / "instructions.txt").write_text("Ask something of {prompt}")
    assert STAGE.runtime(model(wording=str(tmp_path))).split()[1] != first.split()[1]
    assert STAGE.checkpoints(model()) == ()
    assert STAGE.checkpoints(InstructConfig(order=("model",), model="random:text-model")) == ("random:text-model",)
    assert STAGE.checkpoints(InstructConfig(model="random:text-model")) == ()
    with pytest.raises(ValidationError, match=r"instruct.model must name one"):
        InstructConfig(order=("model",))
