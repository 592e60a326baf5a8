"""A batch size that the memory decides: once, and kept."""

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.engine.sd3.memory import MemoryEstimate
from prefmill.pipeline.store import Run
from prefmill.pipeline.synthesis import tasks_of
from prefmill.recipes import batch_size
from prefmill.recipes.batch_size import settle_batch_size
from prefmill.recipes.recipe import Recipe
from prefmill.recipes.settings import override
from prefmill.recipes.tiny import tiny


@pytest.fixture
def auto(monkeypatch):
    monkeypatch.setattr(batch_size, "_estimate", lambda *_: MemoryEstimate(10**9, (10**8, 10**8), (10**8, 10**8)))
    return override(tiny(), ["generate.batch_size=auto", "engine.device=cpu"])


@pytest.mark.parametrize(("free", "prompts"), [(24 * 10**8, 1), (5 * 10**9, 4), (10**12, 16)])
def test_the_number_follows_from_the_free_memory(auto, tmp_path, free, prompts):
    recipe, why = settle_batch_size(Run(tmp_path), auto, free)
    assert isinstance(recipe, Recipe)
    assert recipe.generate.batch_size == prompts
    assert f"batch_size is {prompts}" in why
    assert settle_batch_size(Run(tmp_path), recipe, 1) == (recipe, "")


def test_a_run_that_was_begun_keeps_its_number(auto, tmp_path):
    with Run.writing(tmp_path) as run:
        (tmp_path / "candidates").mkdir()
        run.write_manifest("candidates", {"config": {"batch_size": 3}})
        recipe, why = settle_batch_size(run, auto, 10**12)
        assert isinstance(recipe, Recipe)
        assert (recipe.generate.batch_size, why) == (3, "")


def test_a_prompt_that_does_not_fit_and_a_run_that_was_not_settled(auto, tmp_path):
    with pytest.raises(PrefmillError, match=r"one prompt's 4 images take about 1\.7 GB, and 1\.0 GB are free on cpu"):
        settle_batch_size(Run(tmp_path), auto, 10**9)
    with pytest.raises(PrefmillError, match="batch_size is auto"):
        tasks_of(Run(tmp_path), override(auto, ["prompts.path=prompts.txt"]))
