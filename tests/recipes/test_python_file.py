"""A recipe of one's own: a file's mistakes are told with their line, and its code runs only where it is named."""

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.recipes.catalogue import load_recipe
from prefmill.recipes.recipe import Recipe
from prefmill.recipes.saved import continued, prompts_of, save
from prefmill.recipes.tiny import tiny


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1", ["no function recipe()"]),
        ("recipe = 3", ["no function recipe()"]),
        ("\n\ndef recipe():\n    return 1 / 0", ["own.py:4", "ZeroDivisionError", "division by zero"]),
        ("def recipe(:", ["own.py:1", "SyntaxError"]),
        ("import nosuchmodule", ["own.py:1", "nosuchmodule"]),
        ("import sys\nsys.exit(3)", ["own.py:2", "SystemExit"]),
        ("def recipe():\n    return {}", ["returned a dict, not a Recipe"]),
        ("def recipe():\n    pass", ["returned nothing"]),
        ("def recipe(name):\n    pass", ["own.py", "missing 1 required"]),
    ],
)
def test_a_files_mistake_is_told_with_its_line(code, words, tmp_path):
    (tmp_path / "own.py").write_text(code)
    with pytest.raises(PrefmillError) as error:
        load_recipe(str(tmp_path / "own.py"))
    assert all(word in error.value.message for word in words), error.value.message
    assert error.value.fix


def test_a_plain_recipe_of_a_file_continues_by_its_folder_alone(tmp_path):
    body = "def recipe():\n    return tiny().model_copy(update={'train': None})\n"
    (tmp_path / "plain.py").write_text(f"from prefmill.recipes.tiny import tiny\n\n{body}")
    recipe = load_recipe(str(tmp_path / "plain.py"))
    assert recipe == tiny().model_copy(update={"train": None})
    save(tmp_path, recipe)
    assert continued(tmp_path) == recipe


OWN_CLASS = """
from pathlib import Path
from prefmill.recipes.recipe import Recipe

Path(__file__).with_name("ran").write_text("yes")

class Mine(Recipe):
    note: str = "mine"

def recipe():
    return Mine(prompts={"path": "lines.txt"})
"""


def test_a_run_does_not_run_the_file_that_defines_its_class(tmp_path):
    file, run = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(OWN_CLASS)
    run.mkdir()
    recipe = load_recipe(str(file))
    assert type(recipe).__name__ == "Mine"
    assert type(recipe) is not Recipe
    save(run, recipe)
    (tmp_path / "ran").unlink()
    for read in (lambda: continued(run), lambda: load_recipe(str(run / "run.yaml"))):
        with pytest.raises(PrefmillError, match="only when you name it") as error:
            read()
        assert f"prefmill run {file}" in error.value.fix
    assert prompts_of(run).path == "lines.txt"
    assert not (tmp_path / "ran").exists()
