"""What end-to-end tests share: the command, called as a user would, with its JSON result."""

import json

import pytest
from prefmill.cli.main import app
from typer.testing import CliRunner


@pytest.fixture(scope="module", autouse=True)
def quick_starts(forked_workers):
    """Workers are forked here."""


@pytest.fixture(scope="session")
def command(cache):
    """Call `prefmill ...` and return the JSON object on the last line of its output."""

    def call(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout.strip().splitlines()[-1])

    return call
