"""Answers from a server in a run: what it took lands in the manifest, and a stopped run asks nothing twice."""

import json

import numpy as np
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.bench.loopback import Sent, serving
from prefmill.cli.show import print_summary
from prefmill.engine.images import encode_image
from prefmill.engine.responders.settings import ServerSettings
from prefmill.engine.settings import EngineSettings
from prefmill.pipeline.execute.local import run_task
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.records import Instruction, Response
from prefmill.pipeline.sources import ImageQuestion, ListSource
from prefmill.pipeline.stage import Task
from prefmill.pipeline.stages.answer import STAGE, AnswerStage, ResponderConfig
from prefmill.pipeline.store import Run
from prefmill.pipeline.summary import summarize

ROWS = 10
STAGE_NAME = "responses-served"


class Server:
    """Answers every question but the fourth, takes no seed, and breaks down after `breaks` answers."""

    def __init__(self):
        self.asked, self.breaks = [], 10**9

    async def __call__(self, received) -> Sent:
        body = json.loads(received.body)
        text = body["messages"][0]["content"][-1]["text"]
        if "seed" in body:
            return Sent(b'{"error": {"message": "Unsupported parameter: seed"}}', 400)
        if len(self.asked) >= self.breaks:
            return Sent(b'{"error": {"message": "no", "code": "insufficient_quota"}}', 429)
        self.asked.append(text)
        if text == "question 4":
            return Sent(b'{"error": {"message": "image too small"}}', 422)
        choice = {"message": {"content": f"answer to {text}"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 20}
        return Sent(json.dumps({"choices": [choice], "usage": usage}).encode())


def run_on(run, url):
    server = ServerSettings(concurrency=1, prompt_price=1.0, answer_price=5.0)
    config = ResponderConfig(name="served", model="m", backend="openai", url=f"{url}/v1", server=server, batch_size=4)
    picture = encode_image(np.zeros((8, 8, 3), np.uint8))
    asked = [Instruction(f"i{row}", "c", f"question {row}", "field") for row in range(ROWS)]
    rows = [ImageQuestion(instruction, picture) for instruction in asked]
    source = ListSource(rows, [instruction.id for instruction in asked])
    stage = AnswerStage(config, EngineSettings(device="cpu"))
    assert STAGE.checkpoints(config) == ()
    run_task(run, Task(STAGE_NAME, Response, lambda: source, lambda: stage, 4), ExecutorConfig(), Progress())


def test_a_run_that_was_stopped_is_continued_for_the_price_of_one(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = Server()
    with serving(server) as url, Run.writing(tmp_path) as run:
        server.breaks = 7  # in the middle of the second batch
        with pytest.raises(PrefmillError, match="only for money"):
            run_on(run, url)
        committed = len(run.dataset(STAGE_NAME, Response))
        assert committed == 4
        server.breaks = 10**9
        run_on(run, url)
        rows = {row.text for row in run.dataset(STAGE_NAME, Response)}
        manifest = run.manifest(STAGE_NAME)
        print_summary(summarize(run))
    assert rows == {f"answer to question {row}" for row in range(ROWS) if row != 4}
    answered = [text for text in server.asked if text != "question 4"]
    assert len(answered) == len(set(answered)) == ROWS - 1
    assert manifest["rejects"] == {"refused_422": 1}
    usage = manifest["usage"]
    assert (usage["requests"], usage["failures"], usage["prompt_tokens"], usage["tokens"]) == (10, 1, 900, 180)
    assert manifest["cost"] == usage["cost"] == pytest.approx(9 * (100 * 1 + 20 * 5) / 1e6)
    assert manifest["models"] == [f"m@{url.removeprefix('http://')}/v1"]
    assert any("does not take seed" in notice for notice in manifest["notices"])
    assert f"{STAGE_NAME}: 10 requests (1 failed); 900 tokens in, 180 out; " in capsys.readouterr().out
