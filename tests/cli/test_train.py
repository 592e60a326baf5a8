"""`prefmill train --plan`: what a training would take, printed and as JSON, before anything is loaded."""

import json
import sys

import pytest
from PIL import Image
from prefmill.cli import main
from typer.testing import CliRunner


@pytest.fixture
def run(tmp_path):
    """A run of three imported pairs; one of them cannot be trained on."""
    rows = []
    for number, chosen in enumerate(("A red kite.", "A blue boat on the sea.", "A dog.")):
        Image.new("RGB", (56, 56), (number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append({"image": f"{number}.png", "prompt": "What is this?", "chosen": chosen, "rejected": "A dog."})
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    folder = tmp_path / "run"
    arguments = ["import", "--to", folder, "--pairs", tmp_path / "pairs.jsonl", "--root", tmp_path]
    result = CliRunner().invoke(main.app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return folder


def planned(run, *arguments):
    command = ["train", str(run), "--plan", "--set", "model=random:policy", "--set", "accumulation=1", *arguments]
    result = CliRunner().invoke(main.app, command, terminal_width=200)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_plan_as_json_and_as_a_table(run):
    before = sorted(run.rglob("*"))
    plan = json.loads(planned(run, "--gpu", "h100", "--set", "dollars_per_hour=3", "--json"))
    assert (plan["pairs"], plan["steps"], plan["epochs"]) == (2, 4, 2)
    shared = plan["ways"][-1]
    assert shared["name"] == plan["backend"] == "shared"
    assert shared["hours"] == pytest.approx(shared["flops"] / (989e12 * plan["utilisation"]) / 3600)
    assert shared["cost"] == pytest.approx(3 * shared["hours"])
    assert plan["memory"]["total"] > plan["memory"]["weights"] > 0
    text = planned(run, "--gpu", "h100")
    for words in ("pairs: 2", "steps: 4 of 1 pairs", "shared *", "a projection", "40% of h100", "no cost without"):
        assert words in text
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--plan", "--gpu", "abacus"], ["'abacus'", "a100-80gb"]), (["--gpu", "h100"], ["--plan"])],
    ids=str,
)
def test_mistakes_with_gpus(run, monkeypatch, capsys, arguments, words):
    monkeypatch.setattr(sys, "argv", ["prefmill", "train", str(run), *arguments])
    with pytest.raises(SystemExit):
        main.main()
    error = capsys.readouterr().err
    assert [word for word in words if word not in error] == []
    assert not (run / "training").exists()
