"""Settings from people: whatever is written, the answer is a configuration or one message with its fix."""

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.recipes.catalogue import RECIPES, load_recipe
from prefmill.recipes.described import described_yaml
from prefmill.recipes.saved import continued
from prefmill.recipes.settings import override
from prefmill.recipes.tiny import tiny


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("2020-13-45", "month must be"),
        ("0b_", "not valid YAML"),
        ("!!float abc", "not valid YAML"),
        ("!!bool maybe", "not valid YAML"),
        ("!!timestamp soon", "not valid YAML"),
        ("1" * 5000, "not valid YAML"),
        ("[" * 3000 + "]" * 3000, "nested too deeply"),
        ("0x" + "F" * 6000, "too large to print"),
        ("[1" + "0" * 400 + "]", "out of range"),
        ("[.nan]", "finite"),
        ("[.inf]", "finite"),
        ("true", "a number is needed"),
        ("[true]", "a number is needed"),
        ("&a [*a]", "generate.guidance"),
    ],
)
def test_a_value_of_any_kind_is_refused_in_a_short_message(value, word):
    with pytest.raises(PrefmillError) as error:
        override(tiny(), [f"generate.guidance={value}"])
    assert word in error.value.message
    assert len(error.value.message) < 500


@pytest.mark.parametrize(
    "setting",
    [
        "responders.²=x",
        "responders.-1.name=x",
        "responders.01.name=x",
        f"responders.{'9' * 5000}=x",
        "generate.steps=true",
        f"generate.steps={10**23}",
        "generate.steps=1001",
        "train.beta=.inf",
        "train.learning_rate=.inf",
        "train.lora_rank=false",
        "instruct.templates=['  ']",
        'generate.model="a\\0b"',
        'generate.model="\\ud800"',
        "=1",
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(setting):
    with pytest.raises(PrefmillError):
        override(tiny(), [setting])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"- 1\n", "holds no settings"),
        (b"generate: {steps: 2020-13-45}", "not valid YAML"),
        (b"generate: [", "not valid YAML"),
        (b"\xff\xfe\x00", "not UTF-8"),
        ("generate: {}".encode("utf-16"), "not UTF-8"),
        ("generate: {}".encode("utf-16-le"), "not valid YAML"),
        (b"{a: " * 3000, "nested too deeply"),
        (b"generate: {steps: true}", "a number is needed"),
    ],
)
def test_a_broken_file_of_settings_is_named(content, words, tmp_path):
    (tmp_path / "run.yaml").write_bytes(content)
    for read in (lambda: continued(tmp_path), lambda: load_recipe(str(tmp_path / "run.yaml"))):
        with pytest.raises(PrefmillError, match=words) as error:
            read()
        assert str(tmp_path / "run.yaml") in error.value.message or "generate.steps" in error.value.message
        assert error.value.fix


def test_a_folder_in_the_place_of_run_yaml_is_named(tmp_path):
    (tmp_path / "run.yaml").mkdir()
    with pytest.raises(PrefmillError, match="cannot read"):
        continued(tmp_path)


@pytest.mark.parametrize("name", ["x" * 300, "~nosuchuser/recipe.yaml", "a\0b.yaml", "no.py", "no.yaml", ""])
def test_a_recipe_that_is_none_is_refused(name):
    with pytest.raises(PrefmillError):
        load_recipe(name)


@pytest.mark.parametrize("name", RECIPES)
def test_a_described_recipe_loads_to_the_same(name, tmp_path):
    text = described_yaml(load_recipe(name))
    (tmp_path / "mine.yaml").write_text(text)
    assert load_recipe(str(tmp_path / "mine.yaml")) == load_recipe(name)
    comments = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    assert max(map(len, comments)) <= 110
    lines = text.splitlines()
    assert "# png and webp are lossless" in lines[lines.index("  format: png") - 1]
    assert text.count("names the folder of its answers") <= 1
