"""The documents' commands and code are true: every `prefmill` line parses, every example of docs/api.md runs."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from prefmill.cli.main import app
from prefmill.cli.train_group import TrainGroup
from typer.core import TyperGroup

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands():
    """Every line of a code block that calls `prefmill`, without its remark."""
    for page in PAGES:
        blocks = re.findall(r"```[a-z]*\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for line in "".join(blocks).splitlines():
            if line.strip().startswith("prefmill "):
                yield pytest.param(shlex.split(line.strip(), comments=True)[1:], id=f"{page.name} {line.strip()[:70]}")


@pytest.mark.parametrize("arguments", commands())
def test_a_printed_command_parses(arguments):
    if ">" in arguments:
        arguments = arguments[: arguments.index(">")]
    command = typer.main.get_command(app)
    context = typer.Context(command)
    while isinstance(command, TyperGroup):
        name, *arguments = command.with_default(arguments) if isinstance(command, TrainGroup) else arguments
        command = command.get_command(context, name)
        assert command is not None, f"there is no command {name}"
    command.make_context(command.name, list(arguments), parent=context)


def examples():
    """The Python blocks of docs/api.md, in order."""
    page = ROOT / "docs" / "api.md"
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL) if page.exists() else []


def test_the_examples_run_in_their_order(tmp_path, cache):
    """In a process of their own: they add scorers and loops to the tables of names."""
    assert len(examples()) >= 8
    script = tmp_path / "examples.py"
    script.write_text("\n".join(examples()), encoding="utf-8")
    environment = {**os.environ, "PREFMILL_CACHE": str(cache)}
    result = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "not_red" in result.stdout
