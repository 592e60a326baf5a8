"""The responder benchmark: its arithmetic, and one tiny measurement of both sides."""

import pytest
import torch
from prefmill.bench import responders
from prefmill.bench.responders import claims_of, measure, mixed_requests
from prefmill.engine.responders.interface import Answer


@pytest.fixture
def single_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def rounds(*seconds):
    return [{"cpu": value, "wall": 2 * value} for value in seconds]


def test_claims_are_medians_of_ratios_and_the_share_of_equal_answers():
    answers = {"sequential": ["a", "b", "c", "d"], "ours": ["a", "b", "c", "x"]}
    one = {"timings": {"sequential": rounds(8.0, 9.0, 9.0), "ours": rounds(1.0, 3.0, 2.0)}, "answers": answers}
    two = {"timings": {"sequential": rounds(6.0, 6.0, 6.0), "ours": rounds(1.0, 2.0, 3.0)}, "answers": answers}
    claims = claims_of({1: one, 2: two}, "cpu")
    assert claims["answers_per_s_vs_sequential"] == 4.5  # of 8, 3 and 4.5
    assert claims["wall_vs_sequential_all_threads"] == 3.0  # of 6, 3 and 2
    assert claims["answers_per_s"] == 1.0  # 4 answers in 4 wall seconds
    assert (claims["identical_greedy"], claims["identical"], claims["requests"]) == (0.75, 3, 4)


def test_requests_are_of_mixed_lengths_about_images_of_their_own():
    requests = mixed_requests(8)
    assert len({len(request.text) for request in requests}) > 2
    assert len({request.images[0].tobytes() for request in requests}) == 8
    assert [request.text for request in mixed_requests(8)] == [request.text for request in requests]


@pytest.mark.usefixtures("single_thread")
def test_both_sides_answer_alike():
    setting = {"model": "micro:responder-d", "requests": 5, "device": "cpu", "max_new_tokens": 12, "rounds": 1}
    measured = measure({**setting, "threads": 1})
    assert measured["answers"]["ours"] == measured["answers"]["sequential"]
    assert all(measured["answers"]["ours"])
    assert all(row["cpu"] > 0 for rows in measured["timings"].values() for row in rows)


class Numbers:
    """A backend that answers with the number of each request, and knows whether it was let go."""

    closed = False

    def answer(self, requests, sampling, schema=None):
        return [Answer(str(number), "stop", 1, 1) for number, _ in enumerate(requests)]

    def close(self):
        self.closed = True


@pytest.mark.usefixtures("single_thread")
def test_another_backend_answers_all_at_once_and_is_let_go(monkeypatch):
    other, asked = Numbers(), []
    monkeypatch.setattr(responders, "load_responder", lambda choice, settings: asked.append(choice) or other)
    setting = {"model": "micro:responder-d", "requests": 2, "device": "cpu", "max_new_tokens": 2, "rounds": 1}
    measured = measure({**setting, "backend": "vllm", "threads": 1})
    assert measured["answers"]["ours"] == ["0", "1"]
    assert measured["answers"]["sequential"] != ["0", "1"]
    assert [(one.model, one.backend, one.vllm.memory_share) for one in asked] == [("micro:responder-d", "vllm", 0.5)]
    assert other.closed
