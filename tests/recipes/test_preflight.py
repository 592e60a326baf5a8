"""What a plan says of a run before it begins."""

import pytest
from prefmill.recipes.preflight import plan_run
from prefmill.recipes.settings import override
from prefmill.recipes.tiny import tiny


@pytest.mark.parametrize(
    ("source", "where"), [("/no/such/folder", "no such folder"), ("owner/name", "the hub"), (".", "a folder here")]
)
def test_a_plan_says_where_a_checkpoint_is(source, where, tmp_path):
    plan = plan_run(tmp_path / "run", override(tiny(), [f"judge.model={source}"]))
    assert [model.where for model in plan.models if model.source == source] == [where]
