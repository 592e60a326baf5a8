"""A chat completions server whose replies a test scripts; it counts what it was asked and what it answered."""

import asyncio
import json
from collections import Counter

from prefmill.bench.loopback import Sent


def completion(text, *, finish: str | None = "stop", tokens=3, prompt_tokens=10, **message):
    reply = {
        "model": "served",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
        ],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": tokens},
    }
    return Sent(json.dumps(reply).encode())


def error(status, message, **fields):
    headers = fields.pop("headers", {})
    return Sent(json.dumps({"error": {"message": message, **fields}}).encode(), status, headers)


def text_of(body):
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


class FakeChat:
    """`script(body, number)` gives the reply to a text's call of that number, from 0; None: a plain answer."""

    def __init__(self, script=lambda body, number: None, latency=0.0):
        self.script, self.latency = script, latency
        self.calls, self.answers, self.bodies, self.headers, self.paths = Counter(), Counter(), [], [], []
        self.flying = self.most_flying = 0

    async def __call__(self, received) -> Sent:
        self.paths.append(f"{received.method} {received.path}")
        self.headers.append(received.headers)
        if received.method == "GET":
            return Sent(b'{"data": []}')
        body = json.loads(received.body)
        self.bodies.append(body)
        text = text_of(body)
        number, self.calls[text] = self.calls[text], self.calls[text] + 1
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        try:
            await asyncio.sleep(self.latency)
            sent = self.script(body, number)
            if sent == "hang":
                await asyncio.sleep(60)
        finally:
            self.flying -= 1
        if sent is None:
            self.answers[text] += 1
            return completion(f"answer to {text}")
        assert isinstance(sent, Sent)
        return sent
