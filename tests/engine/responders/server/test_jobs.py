"""Batch jobs against servers that follow the documented formats."""

import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.engine.responders.interface import Answer, Failure, Request
from prefmill.engine.responders.server import jobs
from prefmill.engine.settings import Sampling

from .fake_jobs import FakeAnthropicJobs, FakeOpenAIJobs

SAMPLING = Sampling(max_new_tokens=20, temperature=0.7)
VENDORS = [("openai_batch", FakeOpenAIJobs), ("anthropic_batch", FakeAnthropicJobs)]


@pytest.fixture(autouse=True)
def _keys(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    monkeypatch.setattr(jobs, "_FIRST_PAUSE", 0.001)


@pytest.fixture(params=VENDORS, ids=[name for name, _ in VENDORS])
def vendor(request):
    return request.param


def start(asking, vendor, fake, folder=None, **server):
    responder = asking(fake, backend=vendor[0], poll_seconds=0.005, **server)
    responder._identity = ("vendor", "http://server/v1", "any")  # the same in a restart, whatever the port
    if folder is not None:
        responder.keep_in(folder)
    return responder


def requests(number):
    return [Request(f"question {row}", row, (), f"{row:032x}") for row in range(number)]


def test_one_job_answers_all_in_their_order(asking, vendor):
    fake, said = vendor[1](), []
    responder = start(asking, vendor, fake, prompt_price=1.0, answer_price=2.0)
    responder.tell(said.append)
    replies = responder.answer(requests(5), SAMPLING)
    assert replies == [Answer(f"answer to question {row}", "stop", 3) for row in range(5)]
    assert [(reply.prompt_tokens, reply.seconds, reply.cost) for reply in replies] == [(10, None, 16e-6)] * 5
    assert len(fake.jobs) == 1
    assert sorted(fake.ids) == [f"{row:032x}" for row in range(5)]
    assert said[0].endswith("was begun: 5 requests")


def test_what_expired_or_is_missing_goes_into_another_job_and_what_is_refused_does_not(asking, vendor):
    outcomes = {("question 1", 0): "expired", ("question 2", 0): "lost"}
    outcomes |= {("question 4", job): "expired" for job in range(9)}
    outcomes |= {("question 3", 0): (400, "the image is too small")}
    fake = vendor[1](lambda text, job: outcomes.get((text, job)))
    replies = start(asking, vendor, fake).answer(requests(5), SAMPLING)
    answers = [Answer(f"answer to question {row}", "stop", 3) for row in range(3)]
    assert replies[:3] == answers
    assert (replies[3].reason, replies[4].reason) == ("refused_400", "not_worked_on")
    assert replies[3].detail.startswith("the image is too small")
    assert [fake.asked[f"question {row}"] for row in range(5)] == [1, 2, 2, 1, jobs.ROUNDS]


def test_a_restart_picks_up_the_job_that_was_begun(asking, vendor, tmp_path):
    fake = vendor[1](looks=10**9)
    first = start(asking, vendor, fake, tmp_path, timeout=5.0)
    first.tell(lambda text: None if "was begun" in text else _interrupt())
    with pytest.raises(Stopped):  # while it waits
        first.answer(requests(3), SAMPLING)
    first.close()
    fake.looks = 0
    again = start(asking, vendor, fake, tmp_path)
    # the batches of a restart may be cut otherwise, and hold what no job has asked yet
    assert [reply.text for reply in again.answer(requests(2), SAMPLING)] == [
        "answer to question 0",
        "answer to question 1",
    ]
    assert len(fake.jobs) == 1
    assert [reply.text for reply in again.answer(requests(4), SAMPLING)][2:] == [
        "answer to question 2",
        "answer to question 3",
    ]
    assert fake.asked == {f"question {row}": 1 for row in range(4)}
    assert len(fake.jobs) == 2


class Stopped(Exception):
    pass


def _interrupt():
    raise Stopped


def test_a_job_that_the_server_forgot_is_begun_again(asking, vendor, tmp_path):
    fake = vendor[1]()
    first = start(asking, vendor, fake, tmp_path)
    first.answer(requests(2), SAMPLING)
    first.close()
    (tmp_path / "answers.jsonl").unlink()
    other = vendor[1]()
    assert all(
        isinstance(reply, Answer) for reply in start(asking, vendor, other, tmp_path).answer(requests(2), SAMPLING)
    )
    assert other.asked == {"question 0": 1, "question 1": 1}


def test_a_job_that_would_be_too_large_is_several(asking, vendor, monkeypatch):
    monkeypatch.setattr(
        f"prefmill.engine.responders.server.{vendor[0].removesuffix('_batch')}_jobs."
        f"{vendor[1].__name__.removeprefix('Fake')}.most_requests",
        2,
    )
    fake = vendor[1]()
    replies = start(asking, vendor, fake).answer(requests(5), SAMPLING)
    assert [reply.text for reply in replies] == [f"answer to question {row}" for row in range(5)]
    assert len(fake.jobs) == 3


def test_a_request_in_a_job_carries_its_image_and_is_freed_of_what_the_model_does_not_take(asking, vendor):
    fake = vendor[1](lambda text, job: (400, "`temperature` is deprecated for this model.") if job == 0 else None)
    image = Image.new("RGB", (3, 2), "red")
    responder = start(asking, vendor, fake)
    [reply] = responder.answer([Request("what?", 0, (image,), "a")], SAMPLING)
    assert reply == Answer("answer to what?", "stop", 3)
    assert ["temperature" in body for body in fake.bodies] == [True, False]
    assert fake.bodies[0]["messages"][0]["content"][0]["type"] in ("image_url", "image")
    assert "the server does not take temperature" in responder.notices[0]


def test_the_same_request_under_names_that_no_job_takes_is_asked_for_each(asking, vendor):
    fake = vendor[1]()
    same = [Request("what?", 0, (), name) for name in ("a b", "c d")]
    assert start(asking, vendor, fake).answer(same, SAMPLING) == [Answer("answer to what?", "stop", 3)] * 2
    assert len(set(fake.ids)) == 2


def test_an_empty_account_stops(asking, vendor):
    fake = vendor[1](lambda text, job: (402, "credit balance is too low"))
    with pytest.raises(PrefmillError, match="only for money"):
        start(asking, vendor, fake).answer(requests(3), SAMPLING)


def test_a_job_that_failed_before_it_began_says_why(asking):
    class Failing(FakeOpenAIJobs):
        def begin(self, content):
            error = {"code": "billing_hard_limit_reached", "message": "Billing hard limit has been reached"}
            self.jobs["batch_0"] = {"id": "batch_0", "status": "failed", "errors": {"data": [error]}}
            return {"id": "batch_0", "status": "validating"}

    with pytest.raises(PrefmillError, match="batch_0 failed before it began: Billing hard limit has been reached"):
        start(asking, VENDORS[0], Failing()).answer(requests(1), SAMPLING)


def test_a_failure_that_no_job_explains_says_so(asking):
    fake = FakeAnthropicJobs(lambda text, job: "lost")
    assert start(asking, VENDORS[1], fake).answer(requests(1), SAMPLING) == [
        Failure("missing", "in none of 3 batch jobs")
    ]
