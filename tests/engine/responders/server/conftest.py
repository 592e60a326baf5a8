"""A responder whose server a test scripts."""

import contextlib

import pytest
from prefmill.bench.loopback import serving
from prefmill.engine.responders.catalogue import load_responder
from prefmill.engine.responders.settings import ModelChoice, ServerSettings


@pytest.fixture
def asking():
    """`asking(fake, **server settings)` gives a responder that asks the fake; everything ends with the test."""
    with contextlib.ExitStack() as ends:

        def start(fake, *, backend="openai", model="any", **server):
            url = ends.enter_context(serving(fake)) + "/v1"
            choice = ModelChoice(
                model=model, backend=backend, url=url, server=ServerSettings(**{"timeout": 5.0, **server})
            )
            responder = load_responder(choice)
            ends.callback(responder.close)
            return responder

        yield start
