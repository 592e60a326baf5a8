"""How near does asking a server come to what the server allows, where a fifth of its calls fail?

A server on this machine takes a fixed time for an answer, and fails a share of calls: 500, 429, a reset, a hang, JSON
that ends too early, a body that ends too early. The plain ideal is N * latency / C for N calls with C in flight; where
a share p fails, no client can do better than that over 1 - p. Only these ratios are reported: they are of waiting, not
of computing, so the machine hardly enters, as long as it has a core to spare.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from ..engine.responders.catalogue import load_responder
from ..engine.responders.interface import Answer, Reply, Request
from ..engine.responders.settings import ModelChoice, ServerSettings
from ..engine.settings import Sampling
from .loopback import Received, Sent, serving
from .result_file import called, write_result

FAULTS = ("500", "429", "reset", "hang", "bad json", "half a body")
_KEY = "PREFMILL_BENCH_KEY"


class FailingServer:
    """Chat completions that take `latency` seconds; a `share` of calls fails, each kind as often."""

    def __init__(self, share: float, latency: float) -> None:
        self.share, self.latency = share, latency
        self.random = random.Random(1)
        self.calls, self.answered = Counter[str](), Counter[str]()

    async def __call__(self, received: Received) -> Sent:
        """Answer a call, or fail it."""
        if received.headers.get("authorization") != "Bearer right":
            self.calls["wrong key"] += 1
            return Sent(b'{"error": {"message": "Incorrect API key provided"}}', 401)
        text = json.loads(received.body)["messages"][0]["content"]
        self.calls[text] += 1
        fault = self.random.choice(FAULTS) if self.random.random() < self.share else ""
        if fault == "500":
            return Sent(b"oops", 500)
        if fault == "429":
            return Sent(b'{"error": {"message": "slow down"}}', 429, {"retry-after": "0.1"})
        if fault == "reset":
            return Sent(b"", reset=True)
        await asyncio.sleep(3600 if fault == "hang" else self.latency)
        message = {"message": {"content": f"answer to {text}"}, "finish_reason": "stop"}
        content = json.dumps({"choices": [message], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}).encode()
        if fault:
            return Sent(content[:30]) if fault == "bad json" else Sent(content, cut=30)
        self.answered[text] += 1
        return Sent(content)


def run(calls: int, in_flight: int, latency: float, share: float, to: Path | None = None) -> dict[str, Any]:
    """Measure a server that fails nothing, one that fails a share, and one that refuses the key."""
    ideal = calls * latency / in_flight
    sound, _, sound_seconds = _asked(FailingServer(0.0, latency), calls, in_flight)
    failing, server, seconds = _asked(FailingServer(share, latency), calls, in_flight)
    right = [f"answer to question {row}" for row in range(calls)]
    texts = [reply.text if isinstance(reply, Answer) else None for reply in failing]
    rejects = Counter(reply.reason for reply in failing if not isinstance(reply, Answer))
    refused = FailingServer(0.0, latency)
    began = time.perf_counter()
    try:
        _asked(refused, calls, in_flight, key="wrong")
    except PrefmillError as error:
        stopped = error.message
    else:
        raise AssertionError("a wrong key was taken")
    claims = {
        "vs_ideal_without_failures": round(sound_seconds / ideal, 3),
        "vs_ideal": round(seconds / ideal, 3),
        "vs_ideal_of_failing_calls": round(seconds * (1 - share) / ideal, 3),
        "answers": sum(isinstance(reply, Answer) for reply in [*sound, *failing]),
        "each_once_or_rejected": all(text in (None, one) for text, one in zip(texts, right, strict=True)),
        "answered_twice_by_the_server": sum(count > 1 for count in server.answered.values()),
        "rejects": dict(rejects),
        "calls_with_a_wrong_key": sum(refused.calls.values()),
        "wrong_key_stops_after_latencies": round((time.perf_counter() - began) / latency, 2),
        "wrong_key": stopped.rpartition("/v1 ")[2],
    }
    if to is not None:
        setting = {"calls": calls, "in_flight": in_flight, "latency": latency, "share": share, "faults": FAULTS}
        write_result(to, called("prefmill bench servers"), setting, claims)
    return claims


def _asked(
    server: FailingServer, calls: int, in_flight: int, key: str = "right"
) -> tuple[list[Reply], FailingServer, float]:
    os.environ[_KEY] = key
    requests = [Request(f"question {row}", row, name=f"row-{row}") for row in range(calls)]
    with serving(server) as url:
        settings = ServerSettings(api_key=_KEY, concurrency=in_flight)
        responder = load_responder(ModelChoice(model="any", backend="openai", url=f"{url}/v1", server=settings))
        try:
            began = time.perf_counter()
            replies = responder.answer(requests, Sampling(max_new_tokens=64))
            return replies, server, time.perf_counter() - began
        finally:
            responder.close()


def main() -> None:
    """Measure from the command line; the last line of stdout is one JSON object."""
    parser = argparse.ArgumentParser(description="Measure the client of servers against the best that can be.")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.5, help="seconds that the server takes for an answer")
    parser.add_argument("--share", type=float, default=0.2, help="of calls that fail")
    parser.add_argument("--to", type=Path, help="write the result to this JSON file")
    given = parser.parse_args()
    print(json.dumps(run(given.calls, given.in_flight, given.latency, given.share, given.to)))


if __name__ == "__main__":
    main()
