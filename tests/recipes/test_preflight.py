"""What a plan says of a run before it begins."""

import json

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


def test_an_adapter_that_is_none_is_found_before_the_first_stage(tmp_path):
    adapter = tmp_path / "training" / "adapter"
    recipe = override(tiny(), [f"generate.adapter={adapter}"])

    def said():
        problems = plan_run(tmp_path / "run", recipe).problems
        return [problem.message for problem in problems if problem.setting == "generate.adapter"]

    assert said() == [f"{adapter} holds no adapter: there is no adapter_config.json."]
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    assert said() == []
    (adapter.parent / "manifest.json").write_text(json.dumps({"adapter_config_sha256": "0" * 64}))
    assert "is damaged" in said()[0]
