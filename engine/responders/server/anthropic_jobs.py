"""Anthropic's message batches: the requests in the call that begins the job, one file of results.

https://platform.claude.com/docs/en/build-with-claude/batch-processing
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from .job_service import Exchanges, JobResult, JobState, id_of, json_lines

_STATUS = {
    **{"invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403},
    **{"not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500},
    **{"timeout_error": 504, "overloaded_error": 529},
}
"""The kinds of error in results, by what a call would have had."""


class AnthropicJobs:
    """Jobs of messages."""

    most_requests = 100_000
    most_bytes = 245 << 20  # the limit is 256 MB

    def line(self, custom_id: str, body: dict[str, Any]) -> bytes:
        """Return an entry of the list of requests."""
        return json.dumps({"custom_id": custom_id, "params": body}).encode()

    async def submit(self, exchanges: Exchanges, lines: Sequence[bytes]) -> str:
        """Begin a job."""
        content = b'{"requests": [' + b",".join(lines) + b"]}"
        headers = {"content-type": "application/json"}
        begun = await exchanges.value("POST", "/messages/batches", content=content, headers=headers)
        return id_of(begun)

    async def look(self, exchanges: Exchanges, job: str) -> JobState | None:
        """Return how a job stands."""
        found = await exchanges.value("GET", f"/messages/batches/{job}")
        if found is None:
            return None
        counts = found.get("request_counts") or {}
        answered = int(counts.get("succeeded") or 0)
        # not `results_url`: the key goes to the server that was named, and to no other
        return JobState(found.get("processing_status") == "ended", answered, (f"/messages/batches/{job}/results",))

    def results(self, content: bytes) -> Iterator[JobResult]:
        """Yield the results."""
        for value in json_lines(content):
            result = value.get("result")
            result = result if isinstance(result, dict) else {}
            status, body = None, result
            if result.get("type") == "succeeded":
                status, body = 200, result.get("message")
            elif result.get("type") == "errored":
                body = result.get("error")
                inner = body.get("error", body) if isinstance(body, dict) else {}
                status = _STATUS.get(str(inner.get("type")) if isinstance(inner, dict) else "", 500)
            yield JobResult(str(value.get("custom_id")), status, body)
