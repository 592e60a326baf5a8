"""A responder that says what a test wants it to, registered as a backend like any other."""

from types import SimpleNamespace

import pytest
from prefmill.engine.responders.catalogue import RESPONDERS, ResponderBackend
from prefmill.engine.responders.interface import Answer, Failure


class Scripted:
    """Answers with `script(request)`: a text, or an Answer or Failure; remembers what it was asked."""

    key, execution, runners = "scripted@1", None, ()

    def __init__(self, script):
        self.script, self.asked, self.folder, self.closed = script, [], None, False

    def answer(self, requests, sampling, schema=None):
        self.asked.append([request.name for request in requests])
        replies = [self.script(request) for request in requests]
        return [
            reply if isinstance(reply, Answer | Failure) else Answer(reply, "stop", len(reply.split()), cost=0.5)
            for reply in replies
        ]

    def keep_in(self, folder):
        self.folder = folder

    def close(self):
        self.closed = True


@pytest.fixture
def scripted(monkeypatch):
    """Register the backend `scripted`: `scripted.say(script)` sets what it says, `scripted.last` is the last loaded."""
    state = SimpleNamespace(script=None, last=None, version="1")

    def load(choice, settings, adapter):
        state.last = Scripted(state.script)
        return state.last

    def say(script):
        state.script = script

    state.say = say
    monkeypatch.setitem(
        RESPONDERS, "scripted", ResponderBackend(load, lambda choice: f"scripted-{state.version}", False)
    )
    return state
