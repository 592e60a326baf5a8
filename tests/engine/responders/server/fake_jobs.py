"""Batch APIs as OpenAI and Anthropic document them; a test scripts what becomes of a request."""

import email.parser
import email.policy
import json
from collections import Counter

from prefmill.bench.loopback import Sent

from .fake_chat import text_of


def reply(value, status=200):
    return Sent(json.dumps(value).encode(), status)


class FakeJobs:
    """`script(text, job number)` gives what a request comes to: None (an answer), "expired", "lost", or a status."""

    def __init__(self, script=lambda text, job: None, looks=1):
        self.script, self.looks = script, looks
        self.jobs, self.files, self.seen, self.asked, self.ids, self.bodies = {}, {}, Counter(), Counter(), [], []

    def outcomes(self, requests, job):
        """Text, id and outcome of the requests of a job, in another order than they came."""
        found = []
        for custom_id, body in reversed(requests):
            text = text_of(body)
            self.asked[text] += 1
            self.ids.append(custom_id)
            self.bodies.append(body)
            found.append((text, custom_id, self.script(text, job)))
        return found


class FakeOpenAIJobs(FakeJobs):
    """Files and batches."""

    async def __call__(self, received) -> Sent:
        assert received.headers["authorization"] == "Bearer sk-secret"
        path = received.path.removeprefix("/v1")
        if received.method == "POST" and path == "/files":
            parts = form_of(received)
            assert parts["purpose"] == b"batch"
            name = f"file-{len(self.files)}"
            self.files[name] = parts["file"]
            return reply({"id": name, "object": "file", "purpose": "batch"})
        if received.method == "POST" and path == "/batches":
            asked = json.loads(received.body)
            assert (asked["endpoint"], asked["completion_window"]) == ("/v1/chat/completions", "24h")
            return reply(self.begin(self.files[asked["input_file_id"]]))
        _, kind, name, *rest = path.split("/")
        if kind == "files":
            assert rest == ["content"]
            return Sent(self.files[name])
        self.seen[name] += 1
        if name not in self.jobs:
            return reply({"error": {"message": "no such batch"}}, 404)
        job = self.jobs[name]
        return reply(job if self.seen[name] > self.looks else {"id": name, "status": "in_progress"})

    def begin(self, content):
        requests = []
        for line in content.splitlines():
            value = json.loads(line)
            assert (value["method"], value["url"]) == ("POST", "/v1/chat/completions")
            requests.append((value["custom_id"], value["body"]))
        number = len(self.jobs)
        good, bad = [], []
        for text, custom_id, outcome in self.outcomes(requests, number):
            entry = {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "response": None, "error": None}
            if outcome == "expired":
                bad.append({**entry, "error": {"code": "batch_expired", "message": "not executed in time"}})
            elif isinstance(outcome, tuple):
                status, message = outcome
                body = {"error": {"message": message, "type": "invalid_request_error"}}
                bad.append({**entry, "response": {"status_code": status, "request_id": "r", "body": body}})
            elif outcome is None:
                choice = {"index": 0, "message": {"content": f"answer to {text}"}, "finish_reason": "stop"}
                usage = {"prompt_tokens": 10, "completion_tokens": 3}
                body = {"choices": [choice], "usage": usage, "model": "served"}
                good.append({**entry, "response": {"status_code": 200, "request_id": "r", "body": body}})
        name = f"batch_{number}"
        self.jobs[name] = {"id": name, "status": "completed", "request_counts": {"completed": len(good)}}
        for kind, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines:
                self.files[f"file-{kind}-{number}"] = b"\n".join(json.dumps(line).encode() for line in lines) + b"\n"
                self.jobs[name][kind] = f"file-{kind}-{number}"
        return {"id": name, "status": "validating"}


class FakeAnthropicJobs(FakeJobs):
    """Message batches."""

    async def __call__(self, received) -> Sent:
        assert received.headers["x-api-key"] == "sk-secret"
        assert received.headers["anthropic-version"] == "2023-06-01"
        path = received.path.removeprefix("/v1/messages/batches")
        if received.method == "POST":
            return reply(self.begin(json.loads(received.body)["requests"]))
        _, name, *rest = path.split("/")
        if rest == ["results"]:
            return Sent(self.jobs[name])
        self.seen[name] += 1
        if name not in self.jobs:
            return reply({"type": "error", "error": {"type": "not_found_error", "message": "no such batch"}}, 404)
        ended = self.seen[name] > self.looks
        status = {"processing_status": "ended" if ended else "in_progress", "request_counts": {"succeeded": 0}}
        return reply({"id": name, "type": "message_batch", **status, "results_url": "http://elsewhere.invalid/"})

    def begin(self, entries):
        lines = []
        requests = [(entry["custom_id"], entry["params"]) for entry in entries]
        for text, custom_id, outcome in self.outcomes(requests, len(self.jobs)):
            result = {"type": "expired"}
            if isinstance(outcome, tuple):
                status, message = outcome
                kind = {400: "invalid_request_error", 402: "billing_error"}[status]
                result = {"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": message}}}
            elif outcome is None:
                usage = {"input_tokens": 10, "output_tokens": 3}
                content = [{"type": "text", "text": f"answer to {text}"}]
                message = {"content": content, "stop_reason": "end_turn", "usage": usage, "model": "served"}
                result = {"type": "succeeded", "message": message}
            if outcome != "lost":
                lines.append(json.dumps({"custom_id": custom_id, "result": result}).encode())
        name = f"msgbatch_{len(self.jobs)}"
        self.jobs[name] = b"\n".join(lines) + b"\nnot json\n"
        return {"id": name, "type": "message_batch", "processing_status": "in_progress"}


def form_of(received):
    """The fields of a multipart form, read by the standard library."""
    head = f"Content-Type: {received.headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + received.body)
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message.iter_parts()
    }
