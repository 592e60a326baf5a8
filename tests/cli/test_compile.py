"""`prefmill compile` on a toy recipe: what is printed, as text and as JSON, and what is refused."""

import json

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.cli.main import app
from prefmill.recipes import catalogue
from prefmill.recipes.saved import save
from typer.testing import CliRunner

from ..compile.conftest import toy, workshop  # noqa: F401 - a fixture
from ..recipes.test_engines import recipe  # noqa: F401 - a fixture


@pytest.fixture
def call(recipe, monkeypatch, tmp_path):  # noqa: F811
    """Call `prefmill compile ...`; returns its standard output."""
    monkeypatch.setitem(catalogue.RECIPES, "toy", lambda: recipe)
    monkeypatch.setenv("PREFMILL_ENGINES", str(tmp_path / "engines"))

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["compile", *arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.stdout

    return run


def test_build_list_verify_and_prune(call, tmp_path):
    assert "2 built, 0 found, 1 run eagerly" in call("build", "toy")
    reports = json.loads(call("build", "toy", "--json").splitlines()[-1])
    assert [(one["network"], one["state"]) for one in reports] == [
        ("toy", "found"),
        ("toy_other", "found"),
        ("toy_head", "eager"),
    ]
    assert {one["worst"] for one in reports[:2]} == {0.0}
    listed = json.loads(call("list", "--json"))
    assert sorted(one["identity"]["network"] for one in listed) == ["toy", "toy_other"]
    assert [one["obstacle"] for one in listed] == ["", ""]
    assert "2 in " in call("list")
    verified = json.loads(call("verify", "toy", "--json").splitlines()[-1])
    assert [one["state"] for one in verified] == ["verified", "verified", "eager"]
    (tmp_path / "engines" / "photos").mkdir()
    whole = next(path for path in (tmp_path / "engines").glob("toy-*") if path.is_dir())
    (whole / "weights.pt").unlink()
    assert "photos is no engine of ours" in call("list")
    assert json.loads(call("prune", "--json", "--dry-run"))["removed"] == [str(whole)]
    assert json.loads(call("prune", "--json"))["bytes"] > 0
    assert not whole.exists()
    with pytest.raises(PrefmillError, match="not verified: toy "):
        call("verify", "toy")


def test_where_no_stage_has_a_backend_that_runs_engines_the_devices_is_taken(call):
    said = call("build", "toy", "--set", "engine.backend=eager")
    assert "2 built, 0 found, 1 run eagerly" in said
    assert said.endswith("to run with them: --set engine.backend=onnxruntime\n")
    assert "to run with them" not in call("build", "toy")
    assert "0 replaced, 0 built anew, 2 found" in call("refit", "toy", "--set", "engine.backend=eager")


def test_a_run_is_named_by_its_folder(call, recipe, tmp_path):  # noqa: F811
    (tmp_path / "run").mkdir()
    save(tmp_path / "run", recipe)
    with pytest.raises(PrefmillError, match="recipe class"):  # a class of somebody's own is named by its file
        call("build", str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("toy", "--only", "tow"), "no network tow"),
        (("toy", "--range", "rows=1:2"), "is no range"),
        (("toy", "--range", "rows=4:2:1"), "no range of toy"),
        (("toy", "--range", "height=1:2:4"), "no network height"),
        (("toy", "--target", "sm_80"), "not for sm_80"),
        (("toys",), "there is no recipe"),
    ],
)
def test_what_is_refused(arguments, words, call):
    with pytest.raises(PrefmillError, match=words):
        call("build", *arguments)


def test_what_fails_is_named_and_the_rest_is_built(call, workshop, tmp_path):  # noqa: F811
    def fail_first(path):
        if workshop.builds == 1:
            raise OSError(28, "No space left on device")

    workshop.instead = fail_first
    with pytest.raises(PrefmillError, match=r"not built: toy \(cannot write.*No space left"):
        call("build", "toy")
    assert [path.name.split("-")[0] for path in (tmp_path / "engines").iterdir() if path.is_dir()] == ["toy_other"]


def test_refit(call, tmp_path):
    with pytest.raises(PrefmillError, match=r"nothing to refit: toy \(no engine of its graph") as caught:
        call("refit", "toy")
    assert caught.value.fix == "prefmill compile build toy"
    call("build", "toy")
    assert "0 replaced, 0 built anew, 2 found" in call("refit", "toy")
    rows = json.loads(call("refit", "toy", "--json").splitlines()[-1])
    assert [row["state"] for row in rows] == ["found", "found", "eager"]


def test_prompts_are_refused_where_nothing_draws(call, tmp_path):
    (tmp_path / "some.txt").write_text("a red kite\n")
    with pytest.raises(PrefmillError, match="no engine of this recipe draws images"):
        call("verify", "toy", "--prompts", str(tmp_path / "some.txt"))
