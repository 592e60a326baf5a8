"""OpenAI's batch API: a file of requests, a job over it, a file of answers and one of errors.

https://platform.openai.com/docs/guides/batch; other vendors speak it too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ....base.errors import PrefmillError
from .chat_completions import CHAT_COMPLETIONS
from .job_service import Exchanges, JobResult, JobState, id_of, json_lines

_ENDED = ("completed", "expired", "cancelled")


class OpenAIJobs:
    """Jobs of chat completions."""

    most_requests = 50_000
    most_bytes = 190 << 20  # the limit is 200 MB

    def line(self, custom_id: str, body: dict[str, Any]) -> bytes:
        """Return a line of the file of requests."""
        request = {"custom_id": custom_id, "method": "POST", "url": f"/v1{CHAT_COMPLETIONS.path}", "body": body}
        return json.dumps(request).encode()

    async def submit(self, exchanges: Exchanges, lines: Sequence[bytes]) -> str:
        """Upload the file and begin a job over it."""
        file = {"file": ("requests.jsonl", b"\n".join(lines) + b"\n", "application/jsonl")}
        uploaded = await exchanges.value("POST", "/files", files=file, data={"purpose": "batch"})
        asked = {"endpoint": f"/v1{CHAT_COMPLETIONS.path}", "completion_window": "24h"}
        begun = await exchanges.value("POST", "/batches", json={"input_file_id": id_of(uploaded), **asked})
        return id_of(begun)

    async def look(self, exchanges: Exchanges, job: str) -> JobState | None:
        """Return how a job stands. What an expired or cancelled one has answered is paid for, and in its files."""
        found = await exchanges.value("GET", f"/batches/{job}")
        if found is None:
            return None
        status = found.get("status")
        if status == "failed":
            data = (found.get("errors") or {}).get("data") or [{}]
            said = "; ".join(f"{error.get('message')} [{error.get('code')}]" for error in data[:3])
            raise PrefmillError(
                f"the batch job {job} failed before it began: {exchanges.access.without_key(said)}.",
                "see to that, then give the same command again; `batch_size` is the number of requests in a job",
            )
        counts = found.get("request_counts") or {}
        names = [found.get(name) for name in ("output_file_id", "error_file_id")]
        files = tuple(f"/files/{name}/content" for name in names if name)
        return JobState(status in _ENDED, int(counts.get("completed") or 0), files)

    def results(self, content: bytes) -> Iterator[JobResult]:
        """Yield the results in the file of answers, or in that of errors."""
        for value in json_lines(content):
            response = value.get("response")
            response = response if isinstance(response, dict) else {}
            status = response.get("status_code")
            whole = isinstance(status, int) and not value.get("error")
            body = response.get("body") if whole else {"error": value.get("error")}
            yield JobResult(str(value.get("custom_id")), status if whole else None, body)
