"""What a plan says of the servers that a run will ask."""

from dataclasses import replace

import pytest
from prefmill.pipeline.store import Run
from prefmill.recipes.plan import PlannedStage
from prefmill.recipes.server_calls import server_calls, server_problems
from prefmill.recipes.settings import override
from prefmill.recipes.tiny import tiny

LATER = PlannedStage("responses-one", "answers", 1, (), 0, None, None, None)
PROMPTS = PlannedStage("prompts", "prompts", 1, (), 0, 6, None, None)


@pytest.fixture
def recipe():
    return override(tiny(), ["responders=[{name: one, model: m, backend: openai}]", "instruct.per_image=2"])


def test_a_missing_key_is_found_before_hours_of_work(recipe, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    [problem] = server_problems(recipe, {"responses-one"})
    assert problem.setting == "responders.0"
    assert "OPENAI_API_KEY" in problem.message
    assert list(server_problems(recipe, {"candidates"})) == []


def test_a_backend_that_is_none_is_found_too(recipe):
    [problem] = server_problems(override(recipe, ["responders.0.backend=abacus"]), {"responses-one"})
    assert "there is no responder backend 'abacus'" in problem.message


def test_calls_are_estimated_from_what_is_known(recipe, tmp_path):
    run = Run(tmp_path)

    def said(stage):
        return [note.partition("is asked ")[2] for note in server_calls(run, recipe, [PROMPTS, stage])]

    assert said(LATER) == ["about 12 times"]
    assert said(replace(LATER, expected=8, done=5)) == ["about 3 times"]
    assert said(replace(LATER, inputs=20, done=5)) == ["about 15 times"]
    assert said(replace(LATER, inputs=20, done=20)) == []
    assert [*server_calls(run, tiny(), [PROMPTS, replace(LATER, name="responses-a")])] == []
