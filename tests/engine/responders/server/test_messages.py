"""Anthropic's messages: how a request is written, and how its reply is read."""

import json

import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.bench.loopback import Sent
from prefmill.engine.responders.interface import Answer, Failure, Request
from prefmill.engine.responders.server import calls
from prefmill.engine.settings import Sampling

from .fake_chat import FakeChat


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    monkeypatch.setattr(calls, "_FIRST_PAUSE", 0.001)


def message(text, stop="end_turn"):
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": text}] if text else []
    usage = {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 3}
    return Sent(json.dumps({"content": content, "stop_reason": stop, "usage": usage, "model": "served"}).encode())


def problem(status, kind, text):
    return Sent(json.dumps({"type": "error", "error": {"type": kind, "message": text}}).encode(), status)


def test_a_request_is_written_as_the_format_says(asking):
    fake = FakeChat(
        lambda body, number: message("a kite") if number else problem(529, "overloaded_error", "Overloaded")
    )
    responder = asking(fake, backend="anthropic", model="large")
    schema = {"type": "object"}
    image = Image.new("RGB", (3, 2), "red")
    [reply] = responder.answer([Request("what?", 7, (image,), "a")], Sampling(max_new_tokens=9), schema)
    assert reply == Answer("a kite", "stop", 3)
    assert reply.prompt_tokens == 15
    assert fake.paths == ["POST /v1/messages"] * 2
    assert (fake.headers[0]["x-api-key"], fake.headers[0]["anthropic-version"]) == ("sk-secret", "2023-06-01")
    picture, text = fake.bodies[0]["messages"][0]["content"]
    assert (picture["source"]["type"], picture["source"]["media_type"]) == ("base64", "image/png")
    assert text == {"type": "text", "text": "what?"}
    assert {key: fake.bodies[0][key] for key in fake.bodies[0].keys() - {"messages"}} == {
        **{"model": "large", "max_tokens": 9, "temperature": 0.0},
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
    }


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (message("half", "max_tokens"), Answer("half", "length", 3)),
        (message("", "refusal"), Failure("refusal", "")),
        (message("", "end_turn"), Failure("empty", "ended with 'stop' after 3 tokens")),
        (problem(413, "request_too_large", "too big"), Failure("refused_413", "too big [request_too_large]")),
    ],
    ids=["cut", "refused", "empty", "too large"],
)
def test_a_reply_is_read(asking, sent, reply):
    responder = asking(FakeChat(lambda body, number: sent), backend="anthropic")
    assert responder.answer([Request("what?", name="a")], Sampling()) == [reply]


def test_a_spend_limit_stops(asking):
    text = "You have reached your specified API usage limits."
    fake = FakeChat(lambda body, number: problem(400, "invalid_request_error", text))
    with pytest.raises(PrefmillError, match="only for money"):
        asking(fake, backend="anthropic").answer([Request("what?", name="a")], Sampling())
