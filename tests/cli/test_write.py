import json

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.cli.main import app
from typer.testing import CliRunner


def call(*arguments):
    return CliRunner().invoke(app, ["write", *map(str, arguments)])


def test_prompts_are_written_and_the_last_line_is_the_account(tmp_path):
    to = tmp_path / "prompts.jsonl"
    result = call("prompts", "--count", 32, "--to", to, "--json")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    account = json.loads(lines[-1])
    assert (account["asked"], account["kept"], account["file"]) == (32, 32, str(to))
    assert [one["kept"] for one in account["topics"].values()] == [3] * 2 + [2] * 13
    assert len(to.read_text().splitlines()) == 32
    assert any(line.split()[:4] == ["animal", "3", "3", "3"] for line in lines)
    before = to.read_bytes()
    assert call("prompts", "--count", 32, "--to", to).exit_code == 0
    assert to.read_bytes() == before


def test_too_few_prompts_are_an_error_with_what_to_do(tmp_path):
    (tmp_path / "topics").mkdir()
    own = tmp_path / "topics" / "own.yaml"
    own.write_text("hint: a\naspects: [b]\ngrammar: {prompt: ['one cat on a mat']}\n")
    to = tmp_path / "p.jsonl"
    result = call("prompts", "--topics", "own", "--count", 2, "--to", to, "--wording", tmp_path, "--json")
    assert isinstance(result.exception, PrefmillError)
    assert "1 prompts, 1 fewer" in result.exception.message
    assert json.loads(result.stdout.splitlines()[-1])["kept"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topics", "cars"], "no topic 'cars'"),
        (["--set", "similarity=2"], "similarity"),
        (["--set", "backend=nothing", "--writer", "m"], "no responder backend 'nothing'"),
        (["--set", "engine.device=cuda:99", "--writer", "random:text-model"], "cuda:99"),
        (["--writer", "/nowhere"], "/nowhere"),
    ],
)
def test_a_mistake_is_named_and_leaves_no_file(tmp_path, arguments, message):
    result = call("prompts", "--to", tmp_path / "p.jsonl", *arguments)
    assert isinstance(result.exception, PrefmillError)
    assert message in str(result.exception)
    assert not (tmp_path / "p.jsonl").exists()


def test_the_wording_is_copied_out_to_be_edited(tmp_path):
    result = call("wording", "--to", tmp_path / "mine")
    assert result.exit_code == 0
    assert len(list((tmp_path / "mine" / "topics").glob("*.yaml"))) == 15
    assert (tmp_path / "mine" / "prompts.txt").is_file()
