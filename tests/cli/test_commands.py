"""What every command shares: -h, --version, completion, arguments that are no text, `plan`."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.cli import main
from prefmill.cli.run import configuration
from prefmill.recipes.saved import save
from prefmill.recipes.settings import override
from prefmill.recipes.tiny import tiny
from typer.testing import CliRunner

COMMANDS = [[], ["run"], ["plan"], ["train"], ["import"], ["export"], ["score"], ["show"], ["report"], ["demo"]]
COMMANDS += [["study"], ["recipe"], ["recipe", "show"], ["micro"], ["micro", "train"], ["micro", "verify"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_a_short_help_option(command):
    result = CliRunner().invoke(main.app, [*command, "-h"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_version_and_completion():
    assert CliRunner().invoke(main.app, ["--version"]).output == f"prefmill {version('prefmill')}\n"
    assert "--install-completion" in CliRunner().invoke(main.app, ["-h"], terminal_width=200).output


def called(monkeypatch, capsys, *arguments):
    """What the command prints to stderr, having exited with 2."""
    monkeypatch.setattr(sys, "argv", ["prefmill", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["run", "tiny", "--to", "\udcff"], "not UTF-8"),
        (["recipe", "show", "tiny", "--set", "generate.model=\udcff"], "not UTF-8"),
        (["run", "tiny", "--to", "x" * 300], "File name too long"),
        (["run", "tiny", "--to", "~nosuchuser/r"], "nosuchuser"),
        (["plan", "tiny", "--prompts", "x" * 300], "File name too long"),
        (["plan", "~nosuchuser/r.yaml"], "nosuchuser"),
        (["show", "x" * 300], "File name too long"),
    ],
)
def test_arguments_that_no_file_system_takes(arguments, word, monkeypatch, capsys):
    error = called(monkeypatch, capsys, *arguments)
    assert word in error
    assert "fix:" in error


def test_an_error_does_not_steer_the_terminal(monkeypatch, capsys):
    error = called(monkeypatch, capsys, "recipe", "show", "\x1b[2Jgone")
    assert "\x1b" not in error
    assert r"\u001b[2Jgone" in error or r"\x1b[2Jgone" in error


def test_a_plan_is_printed_also_where_something_stands_in_the_way(monkeypatch, capsys, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red kite\na blue boat\n")
    arguments = ["plan", "tiny", "--to", tmp_path / "run", "--prompts", tmp_path / "prompts.txt", "--json"]
    monkeypatch.setattr(sys, "argv", ["prefmill", *map(str, arguments), "--set", "judge.model=/no/judge"])
    with pytest.raises(SystemExit):
        main.main()
    printed = capsys.readouterr()
    plan = json.loads(printed.out.splitlines()[-1])
    assert plan["stages"][0] == plan["stages"][0] | {"name": "prompts", "inputs": 2, "missing": 2, "state": "begins"}
    assert [problem["setting"] for problem in plan["problems"]] == ["judge.model"]
    assert "/no/judge" in printed.err
    assert not (tmp_path / "run").exists()
    result = CliRunner().invoke(main.app, [str(argument) for argument in arguments[:-1]])
    assert result.exit_code == 0
    assert "nothing stands in the way" in result.output


def test_the_same_command_without_its_prompts_continues_with_the_same(tmp_path):
    (tmp_path / "🎈.txt").write_text("a red kite\n")
    begun = configuration("tiny", tmp_path, str(tmp_path / "🎈.txt"), 3, [])
    assert begun == override(tiny(), [f"prompts.path={tmp_path / '🎈.txt'}", "prompts.limit=3"])
    save(tmp_path, begun)
    again, shorter = configuration("tiny", tmp_path, None, None, []), configuration(None, tmp_path, None, 5, [])
    assert again == begun
    assert shorter == override(begun, ["prompts.limit=5"])
    with pytest.raises(PrefmillError, match=r"no run\.yaml to continue"):
        configuration(None, tmp_path / "none", None, None, [])


def test_waiting_threads_let_go_of_shared_cores_unless_the_user_says_otherwise():
    """Read by OpenMP when torch loads: set before that, and never over a user's own setting."""
    code = (
        "import os, sys; sys.argv = ['prefmill', '--version']; from prefmill.cli import main\n"
        "assert 'torch' not in sys.modules\n"
        "try: main.main()\nexcept SystemExit: pass\n"
        "print(os.environ['GOMP_SPINCOUNT'])"
    )
    for given, expected in ((None, "2000"), ("7", "7")):
        environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
        environment |= {"GOMP_SPINCOUNT": given} if given else {}
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert result.stdout.split()[-1] == expected
