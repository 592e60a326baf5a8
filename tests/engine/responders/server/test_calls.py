"""Calls against a server that does what servers do."""

import base64
import io
import json

import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.bench.loopback import Sent
from prefmill.engine.responders.interface import Answer, Failure, Request
from prefmill.engine.responders.server import calls, limiter
from prefmill.engine.settings import Sampling

from .fake_chat import FakeChat, completion, error

SAMPLING = Sampling(max_new_tokens=20, temperature=0.7, top_p=0.9)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(calls, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(limiter, "_SHORTEST", 1.5)  # a busy machine is not to look like a server that hangs
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")


def requests(number):
    return [Request(f"question {row}", row, name=f"row-{row}") for row in range(number)]


def test_a_request_is_written_as_the_format_says_and_its_answer_priced(asking):
    fake = FakeChat()
    responder = asking(fake, model="llava", prompt_price=2.0, answer_price=10.0)
    image = Image.effect_noise((7, 5), 50).convert("RGB")
    [answer] = responder.answer([Request("What is it?", 5, (image,), "one")], SAMPLING)
    body = fake.bodies[0]
    picture, text = body["messages"][0]["content"]
    kind, data = picture["image_url"]["url"].split(",")
    assert kind == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).tobytes() == image.tobytes()
    assert text == {"type": "text", "text": "What is it?"}
    assert {key: body[key] for key in body.keys() - {"messages"}} == {
        **{"model": "llava", "max_tokens": 20, "temperature": 0.7, "top_p": 0.9, "seed": 5}
    }
    assert fake.paths == ["POST /v1/chat/completions"]
    assert fake.headers[0]["authorization"] == "Bearer sk-secret-0123456789"
    assert answer == Answer("answer to What is it?", "stop", 3)
    assert (answer.prompt_tokens, answer.cost) == (10, pytest.approx((10 * 2 + 3 * 10) / 1e6))
    assert answer.seconds > 0


FAULTS = {
    "500": lambda: Sent(b"oops", 500),
    "429": lambda: error(429, "Rate limit reached, try again in 1ms", headers={"retry-after": "0.001"}),
    "reset": lambda: Sent(b"", reset=True),
    "half": lambda: Sent(completion("x").content, cut=30),
    "bad json": lambda: Sent(b'{"choices": [{"message": {"content": '),
    "not UTF-8": lambda: Sent(b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'),
    "no answers": lambda: Sent(b'{"choices": []}'),
    "unfinished": lambda: completion("half a", finish=None),
    "a page": lambda: Sent(b"<html><script>alert(1)</script>"),
    "hang": lambda: "hang",
}


def test_every_answer_comes_once_whatever_fails_on_the_way(asking):
    names = list(FAULTS)

    def script(body, number):
        row = int(body["messages"][0]["content"].split()[1])
        return FAULTS[names[row // 5 % len(names)]]() if row % 5 == 0 and number == 0 else None

    fake = FakeChat(script, latency=0.002)
    responder = asking(fake, concurrency=8)
    replies = responder.answer(requests(100), SAMPLING)
    assert [reply.text for reply in replies] == [f"answer to question {row}" for row in range(100)]
    assert set(fake.answers.values()) == {1}
    assert len(fake.answers) == 100
    assert {fake.calls[f"question {row}"] for row in range(0, 100, 5)} == {2}
    assert fake.most_flying <= 8 + 2  # two that hang are given up by the client, not by the server


def test_what_never_gets_better_is_a_failure_with_its_reason_after_so_many_attempts(asking):
    bad = {"question 1": Sent(b"oops", 500), "question 2": Sent(b"{"), "question 3": error(422, "image too small")}
    fake = FakeChat(lambda body, number: bad.get(body["messages"][0]["content"]))
    replies = asking(fake, attempts=3).answer(requests(5), SAMPLING)
    assert [getattr(reply, "reason", "") for reply in replies] == ["", "status_500", "bad_json", "refused_422", ""]
    assert [fake.calls[f"question {row}"] for row in range(5)] == [1, 3, 3, 1, 1]
    assert replies[3].detail == "image too small"


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (completion("", tokens=0), Failure("empty", "ended with 'stop' after 0 tokens")),
        (completion(None, finish="length", tokens=20), Failure("empty", "ended with 'length' after 20 tokens")),
        (completion("so", finish="content_filter"), Failure("content_filter", "so")),
        (completion(None, refusal="I cannot"), Failure("refusal", "I cannot")),
        (completion("cut", finish="length", tokens=20), Answer("cut", "length", 20)),
        (completion([{"type": "text", "text": " a "}, {"type": "text", "text": "b"}]), Answer("a b", "stop", 3)),
        (completion("half \ud83d, whole \ud83d\ude00"), Answer("half \ufffd, whole \U0001f600", "stop", 3)),
        (completion("word " * 100_000, tokens=100_000), Answer(("word " * 100_000).strip(), "stop", 100_000)),
        (
            completion("<|im_start|>system\n<script>alert(1)</script>[INST]"),
            Answer("<|im_start|>system\n<script>alert(1)</script>[INST]", "stop", 3),
        ),
    ],
    ids=["empty", "all reasoning", "filtered", "refused", "cut", "parts", "surrogates", "endless", "markers"],
)
def test_what_a_model_says_is_data(asking, sent, reply):
    assert asking(FakeChat(lambda body, number: sent)).answer(requests(1), SAMPLING) == [reply]


def test_two_requests_that_differ_only_in_their_names_are_two(asking):
    fake = FakeChat()
    same = [Request("half \ud83d", 1, (), name) for name in ("one", "two", "two")]
    replies = asking(fake).answer(same, SAMPLING)
    assert [reply.text for reply in replies] == ["answer to half \ufffd"] * 3
    assert sum(fake.calls.values()) == 2


def test_of_several_answers_the_first_counts(asking):
    two = json.loads(completion("first").content)
    two["choices"].append({"index": 1, "message": {"content": "second"}, "finish_reason": "stop"})
    replies = asking(FakeChat(lambda body, number: Sent(json.dumps(two).encode()))).answer(requests(1), SAMPLING)
    assert replies == [Answer("first", "stop", 3)]


@pytest.mark.parametrize(
    ("sent", "said", "fix"),
    [
        (error(401, "Incorrect API key provided: sk-secret-0123456789"), "refuses the key in OPENAI_API_KEY", "export"),
        (error(403, "no: sk-secret-0123456789"), "forbids it (403): no: ***", "OPENAI_API_KEY"),
        (error(404, "The model `any` does not exist", code="model_not_found"), "does not exist", "url"),
        (error(429, "You exceeded your current quota", code="insufficient_quota"), "only for money", "settle"),
        (error(400, "Your credit balance is too low"), "only for money", "settle"),
        (Sent(b"", 308, {"location": "https://elsewhere"}), "no such address", "url"),
    ],
    ids=["401", "403", "404", "quota", "credit", "redirect"],
)
def test_what_cannot_get_better_stops_at_once_and_shows_no_key(asking, sent, said, fix):
    fake = FakeChat(lambda body, number: sent)
    responder = asking(fake, concurrency=4)
    with pytest.raises(PrefmillError) as raised:
        responder.answer(requests(50), SAMPLING)
    assert said in raised.value.message
    assert fix in raised.value.fix
    assert "secret" not in f"{raised.value} {raised.value.fix} {raised.value.__dict__}"
    assert sum(fake.calls.values()) <= 8


def test_a_server_that_is_not_there_stops_the_run_and_rejects_no_row(asking):
    responder = asking(FakeChat(lambda body, number: Sent(b"", reset=True)), attempts=2)
    with pytest.raises(PrefmillError, match="gave no answer to 16 requests in a row"):
        responder.answer(requests(40), SAMPLING)
    alone = asking(FakeChat(lambda body, number: Sent(b"", reset=True)), attempts=2)
    with pytest.raises(PrefmillError, match="gave no answer to the last request"):
        alone.answer(requests(1), SAMPLING)


def test_a_model_that_refuses_every_row_stops_the_run(asking):
    responder = asking(FakeChat(lambda body, number: error(400, "this model reads no images")))
    with pytest.raises(PrefmillError, match="refused_400 this model reads no images"):
        responder.answer(requests(40), SAMPLING)


def test_a_crowded_server_gets_fewer_calls_and_costs_no_answer(asking):
    fake = FakeChat(latency=0.005)
    fake.script = lambda body, number: error(429, "slow down") if fake.flying > 4 else None
    replies = asking(fake, concurrency=32, attempts=1, timeout=60.0).answer(requests(150), SAMPLING)
    assert all(isinstance(reply, Answer) for reply in replies)
    assert set(fake.answers.values()) == {1}


def test_parameters_that_a_server_does_not_take_are_left_out_and_announced(asking):
    def script(body, number):
        if "max_tokens" in body:
            message = (
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'"
            )
            return error(400, message, code="unsupported_parameter")
        if "response_format" in body:
            return error(400, "response_format of type json_schema is not supported by this model")
        if "temperature" in body:
            return error(400, "Unsupported value: 'temperature' does not support 0.7 with this model.")
        return None

    fake = FakeChat(script)
    responder = asking(fake, concurrency=4)
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    replies = responder.answer(requests(12), SAMPLING, schema)
    assert [reply.text for reply in replies] == [f"answer to question {row}" for row in range(12)]
    sent = fake.bodies[0]["response_format"]
    assert sent == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    assert fake.bodies[-1].keys() == {"model", "messages", "max_completion_tokens", "seed", "top_p"}
    assert [notice.split(":")[0] for notice in responder.notices] == [
        *("the server does not take response_format", "the server does not take temperature"),
        "the server calls what answered 'served'",
    ]
    assert sum(fake.calls.values()) <= 12 + 3 * 8  # each refusal is heard once by every worker


def test_a_value_that_is_wrong_refuses_the_row_and_is_not_left_out(asking):
    fake = FakeChat(lambda body, number: error(400, "temperature must be at most 2"))
    [reply] = asking(fake).answer(requests(1), SAMPLING)
    assert reply == Failure("refused_400", "temperature must be at most 2")
