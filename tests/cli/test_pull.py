"""Runs at an address, as a user gives the commands: begun, read, fetched, continued, refused."""

import json
import sys

import pytest
from prefmill.cli import main
from prefmill.pipeline.records import Prompt
from prefmill.pipeline.store import Run
from typer.testing import CliRunner

pytest.importorskip("obstore", reason="the extra `objects` is not installed")
RECIPE = """
from typing import ClassVar

from prefmill.pipeline.prompts import PromptsConfig
from prefmill.pipeline.stages.prompts import STAGE as PROMPTS
from prefmill.recipes.recipe import BaseRecipe


class OnlyPrompts(BaseRecipe):
    STAGES: ClassVar = (PROMPTS,)

    prompts: PromptsConfig = PromptsConfig()


def recipe():
    return OnlyPrompts()
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "only_prompts.py").write_text(RECIPE)
    (tmp_path / "prompts.txt").write_text("a red kite\na blue boat\n")
    return ["run", str(tmp_path / "only_prompts.py"), "--prompts", str(tmp_path / "prompts.txt")]


def said(*arguments):
    result = CliRunner().invoke(main.app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def refused(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["prefmill", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_run_at_an_address(recipe, tmp_path, monkeypatch, capsys):
    address = f"file://{tmp_path}/bucket/first"
    made = said(*recipe, "--to", address, "--work", tmp_path / "work")
    assert (made["run"], made["stages"]["prompts"]["outputs"]) == (address, 2)
    shown = said("show", address)
    assert shown["stages"]["prompts"]["outputs"] == 2
    assert said("pull", address, "--to", tmp_path / "copy")["run"] == str(tmp_path / "copy")
    rows = list(Run.open(tmp_path / "copy").dataset("prompts", Prompt))
    assert [row.text for row in rows] == ["a red kite", "a blue boat"]
    (tmp_path / "prompts.txt").write_text("a red kite\na blue boat\na green hat\n")
    elsewhere = said(*recipe, "--to", address, "--work", tmp_path / "elsewhere")
    assert elsewhere["stages"]["prompts"]["outputs"] == 3
    said("pull", address, "--to", tmp_path / "copy")
    assert len(Run.open(tmp_path / "copy").dataset("prompts", Prompt)) == 3
    assert "this takes a folder" in refused(monkeypatch, capsys, "view", address)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--to", "s3://key:hush@bucket/run"], "credentials come from the environment"),
        (["--to", "ftp://host/run"], "ftp:// is no object store"),
        (["--to", "memory://run"], "is gone when the command ends"),
        (["--work", "somewhere"], "--work is this machine's copy"),
    ],
)
def test_addresses_that_are_none(arguments, word, recipe, monkeypatch, capsys):
    error = refused(monkeypatch, capsys, *recipe, *arguments)
    assert word in error
    assert "fix:" in error
    assert "hush" not in error


def test_nothing_to_continue(tmp_path, monkeypatch, capsys):
    address = f"file://{tmp_path}/bucket"
    error = refused(monkeypatch, capsys, "run", "--to", address, "--work", tmp_path / "work")
    assert f"there is no run at {address}" in error
    error = refused(monkeypatch, capsys, "show", f"file://{tmp_path}/other")
    assert "prefmill run tiny --to file://" in error
