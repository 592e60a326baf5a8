"""`prefmill train reward` as far as no training is needed."""

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.cli.main import app
from prefmill.pipeline.store import Run
from typer.testing import CliRunner


@pytest.fixture
def run_without_preferences(tmp_path):
    with Run.writing(tmp_path / "run") as run:
        (run.folder / "prompts").mkdir()
        run.write_manifest("prompts", {})
    return run.folder


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "holds no preferences between images"),
        (["--micro", "--set", "frozen_share=2"], "frozen_share"),
        (["--set", "aspect=overall"], "unknown setting aspect"),
    ],
)
def test_mistakes_are_named(run_without_preferences, settings, message):
    arguments = ["train", "reward", str(run_without_preferences), *settings]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, PrefmillError)
    assert message in result.exception.message
