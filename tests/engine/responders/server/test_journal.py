"""What is kept survives kills, and is given back for the same question only."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image
from prefmill.bench.loopback import serving
from prefmill.engine.responders.interface import Answer, Failure, Request
from prefmill.engine.responders.server.journal import FILE, Journal
from prefmill.engine.responders.server.ledger import Ledger
from prefmill.engine.responders.server.query import Query
from prefmill.engine.settings import Sampling

from .fake_chat import FakeChat, completion

SAMPLING = Sampling(max_new_tokens=20)


def question(text="what?", name="one", seed=0, sampling=SAMPLING, schema=None, images=(), model=("m", "u")):
    return Query.of(Request(text, seed, images, name), sampling, schema, *model)


def test_a_reply_comes_back_as_it_was(tmp_path):
    replies = {
        "one": Answer("an <b>answer</b>\n\x00\u2028", "length", 5, prompt_tokens=7, seconds=0.5, cost=0.25),
        "two": Failure("content_filter", "no", seconds=1.0, cost=0.5),
    }
    journal = Journal(tmp_path / "_journal")
    for name, reply in replies.items():
        journal.keep(question(name=name), reply)
    journal.close()
    again = Journal(tmp_path / "_journal")
    found = [again.get(question(name=name)) for name in replies]
    assert [vars(reply) for reply in found if reply] == [vars(reply) for reply in replies.values()]
    assert len(again) == 2


def test_a_question_that_differs_in_anything_gets_no_old_answer(tmp_path):
    red, blue = (Image.new("RGB", (4, 4), color) for color in ("red", "blue"))
    journal = Journal(tmp_path)
    journal.keep(question(images=(red,)), Answer("kept", "stop", 1))
    others = [
        *(question(), question(images=(blue,)), question("who?", images=(red,)), question(name="two", images=(red,))),
        *(question(seed=1, images=(red,)), question(images=(red,), model=("m", "v"))),
        question(images=(red,), sampling=Sampling(max_new_tokens=21)),
        question(images=(red,), schema={"type": "object"}),
    ]
    assert [journal.get(other) for other in others] == [None] * len(others)
    assert journal.get(question(images=(red.copy(),))) == Answer("kept", "stop", 1)


def test_a_torn_or_foreign_line_is_passed_over(tmp_path):
    journal = Journal(tmp_path)
    journal.keep(question(name="one"), Answer("a", "stop", 1))
    journal.keep(question(name="two"), Answer("b", "stop", 1))
    journal.close()
    whole = (tmp_path / FILE).read_bytes()
    other = json.dumps({"key": question(name="three").key, "answer": {"words": 3}}).encode()
    (tmp_path / FILE).write_bytes(b"\xff\x00\n[1]\n" + other + b"\n" + whole[:-9])
    torn = Journal(tmp_path)
    torn.keep(question(name="four"), Answer("d", "stop", 1))
    torn.close()
    again = Journal(tmp_path)
    found = [again.get(question(name=name)) for name in ("one", "two", "three", "four")]
    assert found == [Answer("a", "stop", 1), None, None, Answer("d", "stop", 1)]


def test_places_hold_where_lines_are_added_by_several_openings(tmp_path):
    for opening in range(3):
        ledger = Ledger(tmp_path / "file")
        place = ledger.append({"opening": opening})
        assert ledger.read(place) == {"opening": opening}
        ledger.close()
    assert [value["opening"] for _, value in Ledger(tmp_path / "file").lines()] == [0, 1, 2]


def test_what_was_paid_for_is_kept_and_what_failed_is_asked_again(asking, tmp_path):
    bad = {"filtered": completion("", finish="content_filter"), "garbled": completion("x", finish=None)}
    fake = FakeChat(lambda body, number: bad.get(body["messages"][0]["content"]))
    requests = [Request(text, 0, (), text) for text in ("fine", "filtered", "garbled")]
    reasons = []
    for _ in range(2):
        responder = asking(fake, attempts=1)
        # another port each time: the digest must not differ, so the identity is set
        responder._identity = ("openai", "http://server/v1", "any")
        responder.keep_in(tmp_path)
        reasons.append([getattr(reply, "reason", "") for reply in responder.answer(requests, SAMPLING)])
    assert reasons == [["", "content_filter", "bad_reply"]] * 2
    assert fake.calls == {"fine": 1, "filtered": 1, "garbled": 2}


DRIVER = """
import sys
from pathlib import Path
from prefmill.engine.responders.catalogue import load_responder
from prefmill.engine.responders.interface import Request
from prefmill.engine.responders.server import limiter
from prefmill.engine.responders.settings import ModelChoice
from prefmill.engine.settings import Sampling
limiter._SHORTEST = 10.0  # a busy machine is not to look like a server that hangs
server = {"concurrency": 4}
responder = load_responder(ModelChoice(model="m", backend="openai", url=sys.argv[1], server=server))
responder.keep_in(Path(sys.argv[2]))
replies = responder.answer([Request(f"q{row}", row, (), f"row-{row}") for row in range(60)], Sampling(max_new_tokens=9))
print(sum(reply.text == f"answer to q{row}" for row, reply in enumerate(replies)))
responder.close()
assert "torch" not in sys.modules
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_driver_asks_no_answered_question_again(tmp_path):
    fake = FakeChat(latency=0.02)
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    with serving(fake) as url:
        command = [sys.executable, "-c", DRIVER, f"{url}/v1", str(tmp_path)]
        driver = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 60
        while len(fake.answers) < 20:
            assert driver.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        kept = len(Journal(tmp_path))
        assert 0 < kept < 60
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["60"]
    twice = [text for text, calls in fake.calls.items() if calls > 1]
    assert set(fake.calls.values()) <= {1, 2}
    assert len(fake.calls) == 60
    assert len(twice) <= 4  # those in flight
    assert len(Journal(tmp_path)) == 60
