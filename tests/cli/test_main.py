"""The command: quick help, exit codes, errors without tracebacks, Ctrl-C that says how to continue."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import yaml
from prefmill.base.errors import PrefmillError
from prefmill.cli.main import app, main
from prefmill.pipeline.store import Run
from prefmill.recipes.catalogue import RECIPES, load_recipe, tiny
from prefmill.recipes.recipe import Recipe
from prefmill.recipes.settings import override, to_yaml
from typer.testing import CliRunner

from ..forked_worker import be_command, fork


@pytest.fixture
def prefmill(monkeypatch, capsys):
    """The command, called here, where the libraries are imported: its exit code and what it printed."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["prefmill", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=ended.value.code or 0, stdout=printed.out, stderr=printed.err)

    return call


def refused(result, *words):
    """The result is an error for a person: exit code 2, no traceback, the words in it, and a way out."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert "fix:" in result.stderr
    for word in words:
        assert str(word) in result.stderr
    return True


def test_help_imports_no_model_library():
    """What makes `--help` answer at once: measured as the modules that it loads, which no busy machine can change."""
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom prefmill.cli.main import app\n"
        "result = CliRunner().invoke(app, ['--help'])\nassert 'Usage' in result.output\n"
        "heavy = ('torch', 'transformers', 'diffusers', 'pyarrow', 'pydantic', 'PIL')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_mistake_ends_the_process_with_its_message(tmp_path):
    """As a process of its own; the tests below call the same function."""
    command = [sys.executable, "-m", "prefmill.cli.main", "show", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused(result, "is not a run folder")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_its_yaml(name, prefmill, tmp_path):
    (tmp_path / "mine.yaml").write_text(prefmill("recipe", "show", name).stdout)
    assert load_recipe(str(tmp_path / "mine.yaml")) == load_recipe(name)


def test_the_paper_recipe_is_the_papers():
    recipe = load_recipe("pds-dpo")
    assert isinstance(recipe, Recipe)
    assert recipe.generate.guidance == (5.0, 7.0, 9.0, 11.0)
    assert recipe.generate.steps == 28
    assert len(recipe.responders) == 4
    train = recipe.train
    assert train is not None
    found = (train.lora_rank, train.lora_alpha, train.beta, train.learning_rate, train.epochs, train.accumulation)
    assert found == (128, 256, 0.1, 1e-5, 2, 4)


def test_settings_override_nested_values_and_lists():
    recipe = override(tiny(), ["generate.guidance=[3, 4.5]", "responders.1.sampling.temperature=0.5", "train=null"])
    assert recipe.generate.guidance == (3.0, 4.5)
    assert recipe.responders[1].sampling.temperature == 0.5
    assert recipe.responders[0].sampling.temperature == 1.0
    assert recipe.train is None
    again = override(recipe, ["train.epochs=3"]).train
    assert again is not None
    assert again.epochs == 3


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("generate.guidence=[5]", ["unknown setting generate.guidence", "did you mean generate.guidance?"]),
        ("responders.0.modle=x", ["unknown setting responders.0.modle", "responders.0.model?"]),
        ("sccore.model=x", ["unknown setting sccore", "did you mean score?"]),
        ("generate.steps=0", ["generate.steps", "greater than or equal to 1", "0"]),
        ("generate.steps=many", ["generate.steps", "'many'"]),
        ("generate.steps", ["has no value"]),
        ("generate.steps.more=1", ["generate.steps has no settings"]),
        ("responders.7.name=x", ["responders has 3 entries"]),
        ("engine.device=tpu", ["engine.device", "'tpu'"]),
        ('generate.steps="', ["not valid YAML"]),
    ],
)
def test_a_wrong_setting_is_named_with_the_nearest_valid_one(setting, words):
    with pytest.raises(PrefmillError) as error:
        override(tiny(), [setting])
    for word in words:
        assert word in str(error.value)


def test_unknown_keys_in_a_yaml_file(prefmill, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(to_yaml(tiny()).replace("  steps:", "  stpes:"))
    assert refused(prefmill("run", file, "--to", tmp_path / "run"), "generate.stpes", "generate.steps?")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nonsense"], ["no recipe 'nonsense'", "tiny"]),
        (["run"], ["neither a recipe nor a run"]),
        (["run", "--to", "{folder}/none"], ["no run.yaml"]),
        (["run", "tiny", "--to", "{folder}/r", "--prompts", "/no/such.txt"], ["/no/such.txt", "does not exist"]),
        (["run", "tiny", "--to", "{folder}/r"], ["no prompts were given", "--prompts"]),
        (["run", "tiny", "--to", "{folder}/r", "--prompts", "{file}", "--set", "engine.device=cuda"], ["GPU", "cpu"]),
        (["run", "tiny", "--to", "{folder}/r", "--prompts", "{file}", "--set", "score.model={folder}/x"], ["/x"]),
        (["run", "tiny", "--to", "{folder}/r", "--prompts", "{file}", "--remake", "pears"], ["pears", "pairs"]),
        (["show", "{folder}"], ["is not a run folder"]),
        (["export", "{folder}", "--to", "{folder}/out"], ["is not a run folder"]),
        (["train", "{folder}/none"], ["is not a run folder"]),
        (["import", "--to", "{folder}/r"], ["prompts", "images", "answers", "pairs"]),
        (["import", "--to", "{folder}/r", "--pairs", "/no/such.json"], ["/no/such.json"]),
    ],
)
def test_mistakes_get_one_message_and_exit_code_two(arguments, words, prefmill, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a red kite\n")
    filled = [argument.format(folder=tmp_path, file=file) for argument in arguments]
    assert refused(prefmill(*filled), *words)


def test_a_read_only_place_is_an_error_not_a_traceback(prefmill, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert refused(prefmill("run", "tiny", "--to", blocked / "run", "--prompts", "x"), "cannot write to")


def test_bad_prompt_rows_are_recorded_and_the_others_go_on(prefmill, tmp_path):
    rows = [json.dumps({"id": f"p{number}", "text": f"scene {number}"}) for number in range(1, 9)]
    rows[6] = '{"id": "p7", "text": '
    rows[3] = json.dumps({"id": "p3", "text": "another scene with a known id"})
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    arguments = [
        "run",
        "tiny",
        "--to",
        tmp_path / "run",
        "--prompts",
        tmp_path / "prompts.jsonl",
        "--no-train",
        "--json",
    ]
    result = prefmill(*arguments, "--set", "generate.steps=1")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.strip().splitlines()[-1])
    assert found["stages"]["prompts"]["rejects"] == {"duplicate": 1, "invalid_json": 1}
    assert found["stages"]["prompts"]["outputs"] == 6
    shown = prefmill("show", tmp_path / "run", "--rejects", "--json").stdout.splitlines()
    assert {"subject_id": "prompts.jsonl:7", "reason": "invalid_json"}.items() <= json.loads(shown[1]).items()


def test_ctrl_c_keeps_the_work_and_says_how_to_continue(forks, tmp_path, cache):
    folder, told = tmp_path / "run", tmp_path / "told"
    (tmp_path / "prompts.txt").write_text("\n".join(f"scene {number}" for number in range(12)))
    arguments = ["run", "tiny", "--to", folder, "--prompts", tmp_path / "prompts.txt", "--no-train"]
    settings = ["generate.batch_size=1", "executor.commit_seconds=0"]
    settings += [f"responders.{number}.sampling.max_new_tokens=2" for number in range(3)]
    chosen = [part for setting in settings for part in ("--set", setting)]
    process = fork(be_command, ([*map(str, arguments), *chosen], told))
    deadline = time.monotonic() + 120
    while not list(folder.glob("candidates/*.parquet")) and time.monotonic() < deadline and process.is_alive():
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    message = told.read_text()
    assert process.exitcode == 130, message
    assert f"prefmill run --to {folder}" in message
    assert "Traceback" not in message
    done = len(list(folder.glob("candidates/*.parquet")))
    assert 0 < done < 12
    result = CliRunner().invoke(app, ["run", "--to", str(folder), "--no-train", "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    assert Run.open(folder).manifest("candidates")["outputs"] == 48


def test_show_prints_counts_rows_and_rejects(prefmill, tmp_path):
    folder = tmp_path / "run"
    (tmp_path / "prompts.txt").write_text("a red kite\n\na blue boat\n")
    arguments = ["run", "tiny", "--to", folder, "--prompts", tmp_path / "prompts.txt", "--no-train"]
    assert CliRunner().invoke(app, [*map(str, arguments), "--set", "generate.steps=1"]).exit_code == 0
    table = prefmill("show", folder).stdout
    assert "1 empty" in table
    assert "candidates" in table
    rows = prefmill("show", folder, "candidates", "--json", "--rows", "2").stdout.splitlines()
    assert len(rows) == 2
    assert json.loads(rows[0])["guidance"] == 5.0
    assert refused(prefmill("show", folder, "pears"), "no stage 'pears'", "pairs")
    assert yaml.safe_load((folder / "run.yaml").read_text())["prompts"]["path"].endswith("prompts.txt")
