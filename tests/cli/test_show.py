"""What `prefmill show` prints: whole when piped, bounded by --rows, and never what steers a terminal."""

import json

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.cli.main import app
from prefmill.cli.show import show_command
from prefmill.pipeline.records import Candidate, Reject, Response
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run
from typer.testing import CliRunner

EVIL = "a\x1b]0;owned\x07 b\x9b2J \u202egnp :smile: [bold]x[/bold]"
SHOWN = r"a\u001b]0;owned\u0007 b\u009b2J \u202egnp :smile: [bold]x[/bold]"
MANIFEST = {"fingerprint": "f", "complete": True, "inputs": 3, "outputs": 3, "rejects": {}, "seconds": 1.0}
LONG_PATH = "/data/" + "/".join(f"folder-{number}" for number in range(40)) + "/cat.png"


def stage(folder, name, rows, rejects=(), **manifest):
    (folder / name).mkdir()
    write_shard(folder / name, 0, 3, type(rows[0]), rows, Footer("w", tuple(rejects)))
    content = {**MANIFEST, "models": [], "cost": None, "notices": [], "config": {}, **manifest}
    Run(folder).write_manifest(name, content)


@pytest.fixture
def run(tmp_path):
    answers = [Response(f"r{n}", "i", "q", "m", EVIL if n == 0 else f"text {n}") for n in range(3)]
    rejects = [Reject(f"s{n}", "responses-a", "empty", EVIL) for n in range(5)]
    stage(tmp_path, "responses-a", answers, rejects, models=["model-" + "x" * 120])
    stage(tmp_path, "candidates", [Candidate("c", None, 8, 8, b"12345", "m", source=LONG_PATH)])
    return tmp_path


def shown(capsys, *arguments):
    show_command(*arguments)
    return capsys.readouterr()


def test_texts_of_models_cannot_steer_the_terminal(run, capsys):
    for arguments in (("responses-a", False, 10, False), ("responses-a", True, 10, False)):
        out = shown(capsys, run, *arguments).out
        assert SHOWN in out
        assert not set(out) & {"\x1b", "\x07", "\x9b", "\u202e"}


def test_json_lines_carry_the_same_text_without_its_escapes(run, capsys):
    out = shown(capsys, run, "responses-a", False, 1, True).out
    assert json.loads(out)["text"] == EVIL
    assert not set(out) & {"\x1b", "\x07", "\x9b", "\u202e"}


def test_rows_limit_rejects_too_and_say_that_there_are_more(run, capsys):
    for rejects, there_are in ((True, 5), (False, 3)):
        printed = shown(capsys, run, "responses-a", rejects, 2, False)
        assert len(printed.out.splitlines()) == 2
        assert "the first 2" in printed.err
        printed = shown(capsys, run, "responses-a", rejects, there_are, True)
        assert len(printed.out.splitlines()) == there_are
        assert printed.err == ""
    with pytest.raises(PrefmillError, match="-1 rows"):
        show_command(run, "responses-a", False, -1, False)


def test_a_pipe_gets_every_character(run):
    """The runner's stdout is no terminal: nothing is cut at 80 columns, and paths stay whole."""
    result = CliRunner().invoke(app, ["show", str(run)])
    assert "model-" + "x" * 120 in result.stdout
    assert LONG_PATH in CliRunner().invoke(app, ["show", str(run), "candidates"]).stdout


def test_a_terminal_gets_short_texts_and_whole_paths(run, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    write_shard(run / "responses-a", 3, 4, Response, [Response("r", "i", "q", "m", "word " * 100)], Footer("w"))
    out = shown(capsys, run, "responses-a", False, 10, False).out
    assert "text=" + ("word " * 20)[:97] + "..." in out
    assert LONG_PATH in shown(capsys, run, "candidates", False, 10, False).out


def test_overlapping_shards_are_read_once_with_a_notice(run, capsys):
    extra = write_shard(run / "responses-a", 1, 3, Response, [Response("x", "i", "q", "m", "twice")], Footer("w"))
    printed = shown(capsys, run, "responses-a", False, 10, False)
    assert "twice" not in printed.out
    assert extra.path.name in printed.err


@pytest.mark.parametrize("name", ["candidates", "responses-a"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b'{"inputs": "many"}', b"{}", b"[" * 100_000])
def test_a_damaged_manifest_is_named(run, name, content):
    (run / name / "_manifest.json").write_bytes(content)
    with pytest.raises(PrefmillError, match=rf"{name}/_manifest.json"):
        show_command(run, None, False, 10, False)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b'{"steps": 3}'])
def test_a_damaged_manifest_of_a_training_is_named(run, content):
    (run / "training").mkdir()
    (run / "training" / "manifest.json").write_bytes(content)
    with pytest.raises(PrefmillError, match=r"training/manifest.json"):
        show_command(run, None, False, 10, True)
