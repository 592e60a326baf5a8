"""What a plan says of a run before it begins."""

import pytest
from prefmill.recipes.preflight import plan_run
from prefmill.recipes.settings import override
from prefmill.recipes.tiny import tiny
from prefmill.train import extras


@pytest.mark.parametrize(
    ("source", "where"), [("/no/such/folder", "no such folder"), ("owner/name", "the hub"), (".", "a folder here")]
)
def test_a_plan_says_where_a_checkpoint_is(source, where, tmp_path):
    plan = plan_run(tmp_path / "run", override(tiny(), [f"judge.model={source}"]))
    assert [model.where for model in plan.models if model.source == source] == [where]


def test_a_library_that_the_training_needs_is_missed_before_the_first_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    plan = plan_run(tmp_path / "run", override(tiny(), ["train.report_to=[tensorboard]", "train.device=cpu"]))
    problems = [problem for problem in plan.problems if problem.setting == "train"]
    assert ["needs tensorboard, which is not installed" in problem.message for problem in problems] == [True]
