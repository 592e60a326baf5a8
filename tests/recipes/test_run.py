"""What `run_recipe` accepts, and that nothing is written or set aside before it has accepted."""

import os
import shutil

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.budget import Budget, BudgetSpent
from prefmill.pipeline.device_time import device_times
from prefmill.pipeline.records import Candidate, Prompt
from prefmill.pipeline.store import Run
from prefmill.recipes import disk
from prefmill.recipes.forecast import forecast
from prefmill.recipes.preflight import plan_run
from prefmill.recipes.run import run_recipe
from prefmill.recipes.saved import continued
from prefmill.recipes.settings import override
from prefmill.recipes.tiny import tiny


@pytest.fixture(scope="module")
def done(tmp_path_factory, cache):
    """A finished run of three prompts, and its recipe."""
    folder = tmp_path_factory.mktemp("accepted")
    (folder / "prompts.txt").write_text("a red kite\na blue boat\na white cup\n")
    settings = [f"prompts.path={folder / 'prompts.txt'}", "generate.steps=1"]
    settings += [f"responders.{number}.sampling.max_new_tokens=8" for number in range(3)]
    recipe = override(tiny(), settings)
    run_recipe(folder / "run", recipe, train=False)
    return folder, recipe


@pytest.fixture
def copy(done, tmp_path):
    """The same, to change."""
    shutil.copytree(done[0], tmp_path / "copy")
    return tmp_path / "copy" / "run", override(done[1], [f"prompts.path={tmp_path / 'copy' / 'prompts.txt'}"])


def files(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"}


def test_stopping_at_the_pairs_is_not_remembered(done):
    folder, recipe = done
    assert continued(folder / "run") == recipe
    assert recipe.train is not None
    assert not (folder / "run" / "training").exists()


@pytest.mark.parametrize(
    ("settings", "remake", "words"),
    [
        (["prompts.path=/no/such.txt"], None, ["/no/such.txt"]),
        (["prompts.path=/no/such.txt"], "prompts", ["/no/such.txt"]),
        (["prompts.path=/no/such.txt"], "candidates", ["/no/such.txt"]),
        (["generate.steps=2"], None, ["steps was 1, now 2"]),
        (["judge.model=/no/judge"], "response_scores", ["judge.model", "/no/judge"]),
        (["engine.device=cuda:7"], "candidates", ["cuda:7"]),
        ([], "pears", ["pears"]),
        (["prompts.limit=2"], None, ["prompts", "3 of its rows", "set aside"]),
        (["judge.model=/no/judge", "score.model=/no/reward"], "prompts", ["judge.model", "score.model", "2 things"]),
    ],
)
def test_what_is_refused_changes_nothing(settings, remake, words, copy):
    folder, recipe = copy
    before = files(folder)
    with pytest.raises(PrefmillError) as error:
        run_recipe(folder, override(recipe, settings), remake=remake, train=False)
    for word in words:
        assert word in error.value.message
    assert files(folder) == before


def test_a_refused_beginning_leaves_no_folder(tmp_path):
    with pytest.raises(PrefmillError, match="no prompts were given"):
        run_recipe(tmp_path / "run", tiny())
    assert not (tmp_path / "run").exists()


def test_settings_that_a_begun_training_does_not_have_are_refused(copy):
    from prefmill.train.manifest import PLAN, PreferencePlan, write

    folder, recipe = copy
    assert recipe.train is not None
    (folder / "training").mkdir()
    write(
        folder / "training" / PLAN,
        PreferencePlan(run=str(folder), examples=1, examples_digest="x", config=recipe.train),
    )
    before = files(folder)
    with pytest.raises(PrefmillError, match=r"beta was 0\.1, now 0\.2"):
        run_recipe(folder, override(recipe, ["train.beta=0.2"]))
    assert files(folder) == before
    assert not plan_run(folder, override(recipe, ["train.beta=0.2"]), train=False).problems


def test_fewer_prompts_need_a_word(copy):
    folder, recipe = copy
    fewer = override(recipe, ["prompts.limit=2"])
    assert not plan_run(folder, fewer, discard=True, train=False).problems
    (folder.parent / "prompts.txt").write_text("a red kite\na green boat\na white cup\n")
    assert "--discard" in plan_run(folder, recipe, train=False).problems[0].fix
    assert not plan_run(folder, recipe, discard=True, train=False).problems
    assert not plan_run(folder, recipe, remake="prompts", train=False).problems


def test_a_plan_says_what_is_done_and_what_is_missing(copy):
    folder, recipe = copy
    (folder.parent / "prompts.txt").write_text("a red kite\na blue boat\na white cup\na dog\na cat\na key\n")
    before = files(folder.parent)
    plan = plan_run(folder, recipe, train=False)
    expected = forecast(plan, recipe, price=3600)
    assert files(folder.parent) == before
    stages = {stage.name: stage for stage in plan.stages}
    assert list(stages)[:4] == ["prompts", "candidates", "image_scores", "selections"]
    assert (stages["prompts"].done, stages["prompts"].missing, stages["prompts"].state) == (3, 3, "continues")
    assert (stages["candidates"].inputs, stages["candidates"].expected) == (None, 6)
    assert (stages["image_scores"].done, stages["image_scores"].expected) == (12, 24)
    seconds = [Run.open(folder).manifest(name)["seconds"] for name in stages]
    assert expected.cost == pytest.approx(sum(seconds), abs=0.02)  # as much again as for the first three
    assert all(stage.measured for stage in expected.stages)
    assert {model.setting for model in plan.models} >= {"generate.model", "judge.model", "responders.2.model"}
    assert "train.model" not in {model.setting for model in plan.models}
    stored = sum(file.stat().st_size for file in (folder / "candidates").glob("*.parquet"))
    assert plan.disk is not None
    assert plan.disk.images == pytest.approx(stored, rel=0.01)


def test_a_budget_below_one_unit_is_refused_before_anything_starts(copy):
    folder, recipe = copy
    (folder.parent / "prompts.txt").write_text("a red kite\na blue boat\na white cup\na dog\n")
    before = files(folder)
    spent = sum(time.seconds for time in device_times(Run.open(folder)).values()) / 3600
    for budget, words in ((Budget(spent / 2), "is spent"), (Budget(spent + 1e-8), "next unit of candidates takes")):
        with pytest.raises(BudgetSpent, match=words):
            run_recipe(folder, recipe, train=False, budget=budget)
    assert files(folder) == before


def test_a_new_run_has_no_rates_and_needs_all_models(done, tmp_path):
    plan = plan_run(tmp_path / "new", done[1])
    expected = forecast(plan, done[1], price=2.0)
    assert expected.device_hours is None
    assert expected.cost is None
    assert set(expected.unknown) >= {"candidates", "image_scores", "training"}
    assert {model.setting for model in plan.models} >= {"generate.model", "train.model"}
    assert not (tmp_path / "new").exists()


def test_a_disk_that_is_clearly_too_small_is_found_before(done, tmp_path, monkeypatch):
    recipe = override(done[1], ["generate.width=1024", "generate.height=1024"])
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 15_000_000)
    assert "17.6 MB" in plan_run(tmp_path / "run", recipe).notes[0]  # 3 x 4 images of 1.4 bytes a pixel
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 1_000_000)
    assert [problem.setting for problem in plan_run(tmp_path / "run", recipe).problems] == ["disk"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_found_before(done, tmp_path):
    tmp_path.chmod(0o500)
    try:
        assert plan_run(tmp_path / "run", done[1]).problems[0].setting == "--to"
    finally:
        tmp_path.chmod(0o700)


def test_a_path_that_is_none_is_a_problem(done, tmp_path):
    for folder in (tmp_path / ("x" * 300), tmp_path / "prompts.txt" / "run"):
        (tmp_path / "prompts.txt").touch()
        assert plan_run(folder, done[1]).problems[0].setting == "--to"


def test_a_finished_run_is_found_complete_without_its_models(copy):
    folder, recipe = copy
    plan = plan_run(folder, recipe, train=False)
    assert all(stage.state == "complete" for stage in plan.stages)
    assert plan.models == ()
    assert len(Run.open(folder).dataset("candidates", Candidate)) == 4 * len(Run(folder).dataset("prompts", Prompt))
