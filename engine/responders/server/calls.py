"""Queries call by call: so many in flight, each tried until it has a whole answer or a reason why there is none.

Attempts are counted apart from a crowded server's refusals, which cost nothing and say nothing of the request. A pause
before the next attempt is drawn from a range that doubles (full jitter), and is never shorter than the server asks.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ....base.errors import PrefmillError
from ..interface import Failure, Reply
from ..settings import ServerSettings
from .access import Access
from .asker import Done
from .breaker import Breaker
from .completion import Completion, note, reply_of
from .concessions import Concessions
from .dialect import Dialect
from .limiter import Limiter
from .query import Query
from .transport import BrokenExchange, Transport
from .verdict import RowRefused, TryAgain, Verdict, judge

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0


class DirectCalls:
    """Calls of one model on one server."""

    def __init__(self, model: str, dialect: Dialect, access: Access, settings: ServerSettings) -> None:
        self.model, self.dialect, self.access, self.settings = model, dialect, access, settings
        self.transport = Transport(access, dialect.headers(access.key), settings.concurrency, settings.timeout)
        self.limiter = Limiter(settings.concurrency, settings.timeout)
        self.breaker = Breaker(access.url)
        self.concessions = Concessions(dialect)
        self.notices = self.concessions.notices
        self.say: Callable[[str], None] = lambda text: None

    def keep_in(self, folder: Path, answers: int) -> None:
        """Learn that so many answers are there already."""
        self.breaker.answers += answers

    async def ask(self, queries: Sequence[Query], done: Done) -> None:
        """Ask all queries. Raises PrefmillError where nothing gets better by trying."""
        upcoming, unreached = iter(queries), list[Failure]()
        workers = min(len(queries), 2 * self.settings.concurrency)  # one that pauses holds no slot
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(upcoming, done, unreached))
        except ExceptionGroup as errors:
            raise next((one for one in errors.exceptions if isinstance(one, PrefmillError)), errors) from None
        if unreached:
            self.breaker.check_reached(len(queries), len(unreached), unreached[-1])

    async def close(self) -> None:
        """Close the connections."""
        await self.transport.close()

    async def _work(self, upcoming: Iterator[Query], done: Done, unreached: list[Failure]) -> None:
        for query in upcoming:
            reply, worked = await self._reply(query)
            if isinstance(reply, Failure) and reply.reason == "connection":
                unreached.append(reply)
            done(query, reply, worked)

    async def _reply(self, query: Query) -> tuple[Reply, bool]:
        """Return a query's reply, and whether the model has worked for it."""
        # images are encoded in a thread: the loop has other calls to look after
        whole = await asyncio.to_thread(self.dialect.body, self.model, query)
        began, failed, pauses = _now(), 0, 0
        while True:
            sent = self.concessions.apply(whole)
            verdict = await self._attempt(sent, failed)
            seconds = round(_now() - began, 3)
            if isinstance(verdict, Completion):
                self.breaker.answered()
                note(self.notices, verdict, self.model)
                return reply_of(verdict, seconds, self.settings), True
            if isinstance(verdict, RowRefused):
                if self.concessions.learn(sent, verdict.message):
                    continue
                refused = Failure(verdict.reason, verdict.message, seconds)
                self.breaker.refused(refused)
                return refused, False
            failed += not verdict.crowded
            late = seconds > self.settings.timeout * self.settings.attempts
            if failed >= self.settings.attempts or late:
                given_up = Failure(verdict.reason, f"{verdict.detail} (after {failed} attempts)".strip(), seconds)
                self.breaker.given_up(given_up)
                return given_up, False
            pauses += 1
            longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(pauses, 16))
            await asyncio.sleep(max(random.uniform(0, longest), verdict.wait))

    async def _attempt(self, body: dict[str, Any], failed: int) -> Verdict:
        try:
            async with self.limiter.slot(failed) as call:
                exchange = await self.transport.send("POST", self.dialect.path, json=body)
                seconds = _now() - call.began
        except TimeoutError:
            return TryAgain("timeout", "no whole answer in time")
        except BrokenExchange as error:
            too_large = error.reason == "too_large"
            return RowRefused(error.reason, error.detail) if too_large else TryAgain(error.reason, error.detail)
        verdict = judge(exchange.status, exchange.headers, exchange.content, self.dialect, self.access)
        if isinstance(verdict, Completion):
            self.limiter.answered(seconds)
        elif isinstance(verdict, TryAgain) and verdict.crowded:
            self.limiter.turned_away(verdict.wait)
        return verdict


def _now() -> float:
    return asyncio.get_running_loop().time()
