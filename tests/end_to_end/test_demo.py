"""`prefmill demo` at a tenth of its size: all stages, the promised keys, and a report that shows them."""

import json

import pytest
from prefmill.bench import demo
from prefmill.cli.demo import demo_command
from prefmill.pipeline.records import Candidate, Pair
from prefmill.pipeline.store import Run

DPO = {"chair_s", "chair_i", "object_recall", "pope_accuracy", "pope_f1", "pope_yes_ratio"}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(demo, "PROMPTS", 24)
    patch.setattr(demo, "EVALUATED", 20)
    folder = tmp_path_factory.mktemp("demo") / "run"
    yield folder, patch
    patch.undo()


def test_the_demo_runs_and_says_what_it_found(small, capsys):
    folder, _ = small
    demo_command(folder, as_json=False)
    printed = capsys.readouterr()
    results = json.loads(printed.out.splitlines()[-1])
    assert results == json.loads((folder / "results.json").read_text())
    selection = results["selection"]
    assert {"random_exact", "picked_exact", "worst_exact", "clip_exact", "best_fixed_guidance_exact"} < set(selection)
    assert selection["n"] == 24
    assert selection["worst_exact"] <= selection["random_exact"] <= selection["picked_exact"]
    assert sum(results["guidance_share"].values()) == pytest.approx(1)
    for name in ("dpo", "control"):
        assert set(results[name]) >= DPO | {"mcnemar_p", "n"}
        assert all(len(results[name][key]) == 2 for key in DPO)
        assert results[name]["n"] == 20
    assert results["dpo"]["chair_s"][0] == results["control"]["chair_s"][0]
    run = Run.open(folder)
    assert results["pairs"] == len(run.dataset("pairs", Pair)) > 0
    assert len(run.dataset("candidates", Candidate)) == 96
    assert any("no onnxruntime engine of sd3_guided_step" in notice for notice in run.manifest("candidates")["notices"])
    assert results["rejects"]["pairs"]["duplicate"] > 0
    assert {"candidates", "responses-d", "train", "train_control", "evaluate_after"} <= set(results["seconds"])
    assert results["hardware"]["cores"]
    assert results["versions"]["torch"]
    assert "image reward" in printed.out
    assert str(folder / "report.html") in printed.out

    page = (folder / "report.html").read_text()
    assert "Did training help?" in page
    assert "on generated images" in page
    assert page.count("data:image/") > 40


def test_a_second_call_finds_everything_and_says_the_same(small, capsys):
    folder, _ = small
    before = json.loads((folder / "results.json").read_text())
    demo_command(folder, as_json=True)
    printed = capsys.readouterr()
    after = json.loads(printed.out.splitlines()[-1])
    assert "found complete" in printed.err
    assert "already trained" in printed.err
    changing = {"seconds", "date"}
    assert {key: value for key, value in after.items() if key not in changing} == {
        key: value for key, value in before.items() if key not in changing
    }
