"""Plans: what is there to do is found by reading, and what would be lost is said before anything is moved."""

import hashlib

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.engine import device
from prefmill.engine.device import Execution
from prefmill.engine.settings import EngineSettings
from prefmill.pipeline.execute.local import run_tasks
from prefmill.pipeline.execute.plan import Batch, plan_task
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.prompts import PromptsConfig
from prefmill.pipeline.records import Candidate, Prompt, Score
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.stage import work_digest
from prefmill.pipeline.stages.answer import ResponderConfig
from prefmill.pipeline.stages.generate import GenerateConfig
from prefmill.pipeline.stages.score import ScoreConfig
from prefmill.pipeline.store import Dataset, Run
from prefmill.pipeline.synthesis import SynthesisConfig, plan_run, remake_from, tasks_of

from .test_local import EAGER, Batched, run_once, task


def contents(folder):
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file()}


def test_a_plan_names_what_is_missing_and_what_is_useless_and_writes_nothing(tmp_path):
    run_once(tmp_path, task(Batched(), count=20))
    shards = Dataset(tmp_path / "scores", Score).shards
    shards[0].path.write_bytes(b"damage")
    shards[2].path.unlink()
    before = contents(tmp_path)
    plan = plan_task(Run(tmp_path), task(Batched(), count=30))
    assert [(useless.shard, useless.why, useless.rows) for useless in plan.useless] == [(shards[0], "damaged", 0)]
    assert plan.missing == (Batch(0, 4), Batch(8, 12), Batch(20, 24), Batch(24, 28), Batch(28, 30))
    assert (plan.inputs, plan.done, plan.misses_only_its_end) == (30, 12, False)
    assert contents(tmp_path) == before


def test_planning_a_run_of_many_damaged_shards_takes_no_longer_for_each(tmp_path, monkeypatch):
    """Membership is looked up, not searched for: shards are compared a few times each."""
    from prefmill.pipeline.shards import Shard

    run_once(tmp_path, task(Batched(), count=400, batch_size=1))
    compared = 0
    real = Shard.__eq__

    def counted(self, other):
        nonlocal compared
        compared += 1
        return real(self, other)

    monkeypatch.setattr(Shard, "__eq__", counted)
    assert len(plan_task(Run(tmp_path), task(Batched(), count=400, batch_size=1)).shards) == 400
    assert compared < 400 * 20


@pytest.fixture
def config(cache, tmp_path):
    (tmp_path / "prompts.txt").write_text("a kite\na red boat\ntwo dogs\n")
    return SynthesisConfig(
        prompts=PromptsConfig(path=str(tmp_path / "prompts.txt")),
        generate=GenerateConfig(model="random:text-to-image", steps=1, batch_size=1),
        score=ScoreConfig(model="random:image-reward"),
        responders=(ResponderConfig(name="a", model="random:responder-a"),),
        engine=EngineSettings(device="cpu"),
        executor=ExecutorConfig(commit_seconds=0),
    )


def bring_images(folder, config, **how):
    with Run.writing(folder) as run:
        run_tasks(run, tasks_of(run, config)[:3], EAGER, Progress(), **how)
    return run


def test_a_run_never_goes_on_in_another_precision(tmp_path, config, monkeypatch):
    """What `auto` came to is what counts: begun where it was bfloat16, continued where it is float32."""
    with monkeypatch.context() as patch:
        patch.setattr(device, "resolve_execution", lambda settings: Execution("eager", "bfloat16", "cuda"))
        run = bring_images(tmp_path / "run", config)
    manifest = run.manifest("candidates")
    assert (manifest["precision"], manifest["backend"], manifest["device"]) == ("bfloat16", "eager", "cuda")
    assert run.manifest("prompts")["precision"] == ""
    with pytest.raises(PrefmillError, match="precision was 'bfloat16', now 'float32'") as caught:
        bring_images(tmp_path / "run", config)
    assert "--set engine.dtype=bfloat16" in caught.value.fix
    assert "--remake candidates" in caught.value.fix
    assert "auto" not in str(manifest)


def test_the_batch_size_of_a_model_is_part_of_what_its_rows_depend_on(tmp_path, config):
    bring_images(tmp_path / "run", config)
    larger = config.model_copy(update={"generate": config.generate.model_copy(update={"batch_size": 2})})
    with pytest.raises(PrefmillError, match="batch_size was 1, now 2") as caught:
        bring_images(tmp_path / "run", larger)
    assert "--set generate.batch_size=1" in caught.value.fix
    named = {task.name: task.config for task in tasks_of(Run(tmp_path / "run"), config)}
    assert [name for name, values in named.items() if "batch_size" in values] == [
        *("candidates", "image_scores", "responses-a", "response_scores")
    ]


def test_fewer_prompts_set_nothing_aside_unless_they_may(tmp_path, config):
    folder, prompts = tmp_path / "run", tmp_path / "prompts.txt"
    run = bring_images(folder, config)
    before, whole = contents(folder), prompts.read_text()
    prompts.write_text("a kite\n")
    with pytest.raises(PrefmillError, match=r"what 3 of its rows .* 12 candidates, 12 image_scores") as caught:
        bring_images(folder, config)
    assert "--discard" in caught.value.fix
    assert contents(folder) == before
    bring_images(folder, config, discard=True)
    assert len(run.dataset("candidates", Candidate)) == 4
    prompts.write_text(whole + "a fourth\n")
    bring_images(folder, config, discard=True)  # more at the end: the one short shard of prompts is read again
    assert len(run.dataset("image_scores", Score)) == 16


def test_a_remake_checks_its_inputs_before_it_moves_anything(tmp_path, config):
    folder = tmp_path / "run"
    bring_images(folder, config)
    before = contents(folder)
    wrong = config.model_copy(update={"prompts": PromptsConfig(path=str(tmp_path / "nosuch.txt"))})
    with Run.writing(folder) as run, pytest.raises(PrefmillError, match=r"nosuch\.txt does not exist"):
        remake_from(run, wrong, "prompts", Progress())
    assert {path: data for path, data in contents(folder).items() if path.name != ".lock"} == {
        path: data for path, data in before.items() if path.name != ".lock"
    }


def test_a_whole_run_can_be_planned_before_and_after(tmp_path, config):
    run = Run(tmp_path / "run")
    plans = {plan.task.name: plan for plan in plan_run(run, config)}
    assert list(plans) == [task.name for task in tasks_of(run, config)]
    assert (plans["prompts"].inputs, plans["candidates"].inputs) == (3, 0)
    assert plans["candidates"].task.checkpoints == ("random:text-to-image",)
    assert not run.folder.exists()
    bring_images(run.folder, config)
    after = {plan.task.name: plan for plan in plan_run(run, config)}
    assert [after[name].missing for name in ("prompts", "candidates", "image_scores")] == [(), (), ()]
    assert len(run.dataset("prompts", Prompt)) == after["candidates"].inputs == 3


def test_a_shard_that_claims_what_others_hold_is_set_aside_and_nothing_is_made_again(tmp_path):
    """What an interrupt could leave behind: a second shard over a range that is covered."""
    expected = run_once(tmp_path, task(Batched(), count=20))
    folder = tmp_path / "scores"
    with Run.writing(tmp_path) as run:
        plan = plan_task(run, task(Batched(), count=20))
        footer = Footer(work_digest(plan.fingerprint, plan.source.keys(2, 6)))
        extra = write_shard(folder, 2, 6, Score, [Score("twice", "batched", 0.0)], footer)
        plan = plan_task(run, task(Batched(), count=20))
    assert [(entry.shard.path, entry.why) for entry in plan.useless] == [(extra.path, "overlapping")]
    assert not plan.missing
    stage = Batched()
    assert run_once(tmp_path, task(stage, count=20)) == expected
    assert stage.calls == []
    assert [path.name for path in (folder / "_set-aside").iterdir()] == [f"overlapping-{extra.path.name}"]
