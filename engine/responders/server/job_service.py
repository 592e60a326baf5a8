"""A vendor's batch jobs: how one is submitted, looked at, and its results read. Half the price, within a day."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ....base.errors import PrefmillError
from .access import Access
from .transport import BrokenExchange, Exchange, Transport
from .verdict import message_of, retry_after, stop_for


@dataclass(frozen=True)
class JobState:
    """A job as it stands; `files`: the paths of its results, once it has `ended`."""

    ended: bool
    answered: int = 0
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobResult:
    """What became of one request: an HTTP status and a body as a call would have had; None: it was not worked on."""

    custom_id: str
    status: int | None
    body: Any


class JobService(Protocol):
    """A vendor's way."""

    most_requests: int
    most_bytes: int
    """Of one job's requests."""

    def line(self, custom_id: str, body: dict[str, Any]) -> bytes:
        """Return a request as a job takes it."""
        ...

    async def submit(self, exchanges: Exchanges, lines: Sequence[bytes]) -> str:
        """Begin a job and return its id."""
        ...

    async def look(self, exchanges: Exchanges, job: str) -> JobState | None:
        """Return how a job stands; None where the server knows it no more. Raises PrefmillError for a failed one."""
        ...

    def results(self, content: bytes) -> Iterator[JobResult]:
        """Yield the results in a file; lines that are none are passed over."""
        ...


class Exchanges:
    """Exchanges that are repeated until they succeed, since a job is worth more than a call."""

    def __init__(self, transport: Transport, access: Access, attempts: int, first_pause: float) -> None:
        self.transport, self.access, self.attempts, self.first_pause = transport, access, attempts, first_pause

    async def send(self, method: str, path: str, **what: Any) -> Exchange:
        """Return a reply that succeeded, or one of 404. Raises PrefmillError for every other."""
        said = ""
        for attempt in range(self.attempts):
            wait = self.first_pause * 2**attempt
            try:
                exchange = await self.transport.send(method, path, largest=1 << 30, **what)
            except BrokenExchange as error:
                said = f"{error.reason} {error.detail}"
            else:
                if exchange.status in (200, 201) or (exchange.status == 404 and method == "GET"):
                    return exchange
                said = f"{exchange.status} {self.access.without_key(message_of(exchange.content))}"
                if stop := stop_for(exchange.status, said, self.access):
                    raise stop
                if exchange.status not in (408, 409, 425, 429) and exchange.status < 500:
                    break
                wait = max(wait, retry_after(exchange.headers) or 0.0)
            await asyncio.sleep(wait)
        raise PrefmillError(
            f"{self.access.url}{path} gave no answer: {said}.",
            "see to that, then give the same command again: jobs that were begun are picked up",
        )

    async def value(self, method: str, path: str, **what: Any) -> dict[str, Any] | None:
        """Return the JSON object that a reply is, None for 404. Raises PrefmillError for another."""
        exchange = await self.send(method, path, **what)
        if exchange.status == 404:
            return None
        try:
            value = json.loads(exchange.content.decode("utf-8"))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise PrefmillError(f"{self.access.url}{path} answers with no JSON object.", "correct `url`")
        return value


def json_lines(content: bytes) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a file, one a line; what is none is passed over."""
    for line in content.split(b"\n"):
        try:
            value = json.loads(line.decode("utf-8")) if line.strip() else None
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def id_of(value: dict[str, Any] | None) -> str:
    """Return the id of what a server took. Raises PrefmillError for one that cannot be a part of an address."""
    name = (value or {}).get("id")
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
        raise PrefmillError(f"the server names what it took {name!r}.", "correct `url`")
    return name
