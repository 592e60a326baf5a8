"""lmms-eval's results are read, and it is run as another interpreter's program: here a script that plays it."""

import json
import stat
import sys

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.bench.evaluators.lmms.running import LmmsRun, interpreter, run_tasks
from prefmill.bench.evaluators.lmms.tasks import read_results, report_content
from prefmill.cli import main
from typer.testing import CliRunner

# The metrics are those that AdaLLaVA's README shows of a run (github zhuoyan-xu/AdaLLaVA); what is around them is what
# lmms_eval/loggers/evaluation_tracker.py writes.
RECORDED = {
    "results": {
        "mme": {
            "alias": "mme",
            "flops,flops": 7239070670529.51,
            "flops_stderr,flops": "N/A",
            "mme_cognition_score,none": 324.6428571428571,
            "mme_cognition_score_stderr,none": "N/A",
            "mme_perception_score,none": 1487.19037615046,
            "mme_perception_score_stderr,none": "N/A",
        }
    },
    "group_subtasks": {"mme": []},
    "n-shot": {"mme": 0},
    "n-samples": {"mme": {"original": 2374, "effective": 2374}},
    "config": {"model": "llava_hf", "model_args": "pretrained=merged", "limit": None},
    "git_hash": "80391ce",
    "date": "20261128_101010",
    "model_name": "merged",
    "model_name_sanitized": "merged",
    "total_evaluation_time_seconds": "60.5",
}
PLAYED = """#!{python} -SE
import json, pathlib, sys
if sys.argv[1] == "-c":
    print("0.7.1")
    sys.exit({missing})
arguments = dict(zip(sys.argv[3::2], sys.argv[4::2]))
task = arguments["--tasks"]
print("running", task)
calls = pathlib.Path({calls!r})
calls.write_text(calls.read_text() + task + "\\n" if calls.exists() else task + "\\n")
if task == {broken!r} and not pathlib.Path({repaired!r}).exists():
    sys.exit("CUDA out of memory")
content = json.loads({recorded!r})
if task != "mme":
    content["results"] = {{task: {{"exact_match,none": 0.5, "exact_match_stderr,none": 0.01}}}}
limit = int(sys.argv[sys.argv.index("--limit") + 1]) if "--limit" in sys.argv else 10
content["n-samples"] = {{task: {{"original": 10, "effective": limit}}}}
folder = pathlib.Path(arguments["--output_path"]) / "merged"
folder.mkdir(parents=True)
(folder / "20261128_101010_results.json").write_text(json.dumps(content))
"""


def results(tmp_path, **changes):
    path = tmp_path / "20261128_results.json"
    path.write_text(json.dumps({**RECORDED, **changes}))
    return path


@pytest.fixture
def played(tmp_path, monkeypatch):
    """An interpreter with an lmms-eval that fails at textvqa_val until it is repaired; its calls."""
    script, calls, repaired = (tmp_path / name for name in ("python", "calls", "repaired"))
    values = {"calls": str(calls), "repaired": str(repaired), "broken": "textvqa_val", "missing": 0}
    script.write_text(PLAYED.format(python=sys.executable, recorded=json.dumps(RECORDED), **values))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PREFMILL_LMMS_PYTHON", str(script))
    return calls, repaired


def test_recorded_results(tmp_path):
    found = read_results(results(tmp_path))
    measures = {one["name"]: one["value"] for one in found.measures()}
    assert measures == {"MME perception": 1487.19037615046, "MME cognition": 324.6428571428571}
    assert (found.model, found.version, found.samples) == ("merged", "80391ce", {"mme": (2374, 2374)})
    assert report_content([found], ["mme"])["notes"] == []


def test_names_of_other_versions_and_units(tmp_path):
    own = {
        "mme": {"mme_percetion_score,none": 1500.0},
        "vqav2_val": {"vqav2_val/exact_match,none": 0.785},
        "mmvet": {"gpt_eval_score,none": 31.1},
    }
    found = read_results(results(tmp_path, results=own)).measures()
    assert {one["name"]: one["value"] for one in found} == {
        "MME perception": 1500.0,
        "MME cognition": None,
        "VQAv2": pytest.approx(78.5),
        "MM-Vet": 31.1,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"results": {}}, "holds no number"),
        ({"results": {"mme": {"alias": "mme"}}}, "holds no number"),
        ({"results": {"mme": {"mme_cognition_score,none": float("nan")}}}, "mme: mme_cognition_score is nan"),
        ({"results": []}, "holds no results of lmms-eval"),
        ({"n-samples": {"mme": {"effective": "x"}}}, "holds no results of lmms-eval"),
    ],
)
def test_files_that_are_none(tmp_path, changes, message):
    with pytest.raises(PrefmillError, match=message):
        read_results(results(tmp_path, **changes))


def test_a_part_of_the_questions_is_said(tmp_path):
    found = read_results(results(tmp_path, **{"n-samples": {"mme": {"original": 2374, "effective": 8}}}))
    assert report_content([found], [])["notes"] == ["only a part of mme was asked: not comparable"]
    with pytest.raises(PrefmillError, match="no results of mmvet"):
        report_content([found], ["mme", "mmvet"])


def test_a_stopped_evaluation_goes_on_with_its_task(tmp_path, played):
    calls, repaired = played
    tasks = ["mme", "textvqa_val", "scienceqa_img"]
    run = LmmsRun("models/merged", arguments=("device_map=auto",))
    with pytest.raises(PrefmillError, match=r"failed at textvqa_val .*CUDA out of memory"):
        run_tasks(run, tasks, tmp_path / "out", Progress())
    repaired.touch()
    found = run_tasks(run, tasks, tmp_path / "out", Progress())
    assert calls.read_text().split() == ["mme", "textvqa_val", "textvqa_val", "scienceqa_img"]
    values = {one["name"]: one["value"] for one in report_content(found, tasks)["measures"]}
    assert values["TextVQA"] == values["ScienceQA"] == 50
    command = json.loads((tmp_path / "out" / "mme" / "command.json").read_text())
    assert command[:7] == ["0.7.1", "-m", "lmms_eval", "--model", "llava_hf", "--model_args", command[6]]
    assert command[6] == "pretrained=models/merged,device_map=auto"
    with pytest.raises(PrefmillError, match="results of another command"):
        run_tasks(LmmsRun("models/other"), tasks, tmp_path / "out", Progress())


def test_the_command(tmp_path, played):
    command = ["eval", "lmms", "--model", "owner/name", "--tasks", "mme", "--to", str(tmp_path / "out"), "--limit", "4"]
    result = CliRunner().invoke(main.app, command)
    assert result.exit_code == 0, (result.output, result.exception)
    for words in ("MME perception", "1487.2", "4 of 10", "not comparable"):
        assert words in result.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["measures"][0]["value"] == 1487.19037615046
    assert report["lmms_eval"] == ["80391ce"]
    read = CliRunner().invoke(main.app, ["eval", "lmms", "--results", str(results(tmp_path)), "--json"])
    assert json.loads(read.stdout.splitlines()[-1])["measures"] == report["measures"]


def test_interpreters_that_do_not_have_it(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFMILL_LMMS_PYTHON", raising=False)
    with pytest.raises(PrefmillError, match="PREFMILL_LMMS_PYTHON names none"):
        interpreter()
    monkeypatch.setenv("PREFMILL_LMMS_PYTHON", str(tmp_path / "none"))
    with pytest.raises(PrefmillError, match="where no program is"):
        interpreter()
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o700)
    monkeypatch.setenv("PREFMILL_LMMS_PYTHON", str(script))
    with pytest.raises(PrefmillError, match="has no lmms_eval"):
        interpreter()
