"""Queries as batch jobs: one job for all that are asked at once, half the price, answers within a day.

A job's id is journalled before it is waited for, so that a restart picks it up. Whatever has no answer at its end (an
expired job, an error of the server's) goes into another job, a bounded number of times.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..interface import Failure
from ..settings import ServerSettings
from .access import Access
from .asker import Done
from .completion import Completion, note, reply_of
from .concessions import Concessions
from .dialect import Dialect
from .job_service import Exchanges, JobResult, JobService
from .ledger import Ledger
from .query import Query
from .transport import Transport
from .verdict import RowRefused, TryAgain, Verdict, judge

FILE = "jobs.jsonl"
ROUNDS = 3
"""Jobs that are begun for one query, at most."""
_FIRST_PAUSE = 1.0  # seconds before an exchange is repeated


@dataclass(frozen=True)
class Job:
    """A job that was begun: its id, and the keys of its requests (`Query.key`), by their names in it."""

    name: str
    keys: dict[str, str]


@dataclass
class Open:
    """What of some queries is not decided yet, by key, and why the last attempt at it failed."""

    queries: dict[str, Query]
    failures: dict[str, Failure]
    done: Done


class BatchJobs:
    """Jobs of one model with one vendor."""

    def __init__(
        self, model: str, dialect: Dialect, access: Access, settings: ServerSettings, service: JobService
    ) -> None:
        self.model, self.dialect, self.access, self.settings, self.service = model, dialect, access, settings, service
        transport = Transport(access, dialect.headers(access.key), 4, settings.timeout)
        self.exchanges = Exchanges(transport, access, settings.attempts, _FIRST_PAUSE)
        self.concessions = Concessions(dialect)
        self.notices = self.concessions.notices
        self.say: Callable[[str], None] = lambda text: None
        self.begun: list[Job] = []
        self.ledger: Ledger | None = None

    def keep_in(self, folder: Path, answers: int) -> None:
        """Keep the ids of jobs in a folder, and take those that are there for begun."""
        self.ledger = Ledger(folder / FILE)
        for _, value in self.ledger.lines():
            if isinstance(value, dict) and isinstance(value.get("keys"), dict):
                self.begun.append(Job(str(value.get("job")), value["keys"]))

    async def ask(self, queries: Sequence[Query], done: Done) -> None:
        """Have all queries answered by jobs. Raises PrefmillError where nothing gets better by trying."""
        left = Open({query.key: query for query in queries}, {}, done)
        for job in [job for job in self.begun if not left.queries.keys().isdisjoint(job.keys.values())]:
            self.say(f"batch job {job.name} was begun before and is picked up")
            await self._collect(job, left)
        for _ in range(ROUNDS):
            if left.queries:
                for job in await self._submit(list(left.queries.values())):
                    await self._collect(job, left)
        for key, query in left.queries.items():
            done(query, left.failures.get(key, Failure("missing", f"in none of {ROUNDS} batch jobs")), False)

    async def close(self) -> None:
        """Close the connections and the file of jobs."""
        await self.exchanges.transport.close()
        if self.ledger is not None:
            self.ledger.close()

    async def _submit(self, queries: Sequence[Query]) -> list[Job]:
        """Begin a job over the queries, or several where one would be too large."""
        portions, jobs = self._portions(queries), []
        # written in a thread: a thousand images take their time
        while portion := await asyncio.to_thread(next, portions, None):
            name = await self.service.submit(self.exchanges, [line for _, line in portion.values()])
            job = Job(name, {custom_id: query.key for custom_id, (query, _) in portion.items()})
            if self.ledger is not None:
                self.ledger.append({"job": job.name, "keys": job.keys})
                self.ledger.sync()
            self.begun.append(job)
            jobs.append(job)
            self.say(f"batch job {name} was begun: {len(portion)} requests")
        return jobs

    def _portions(self, queries: Sequence[Query]) -> Iterator[dict[str, tuple[Query, bytes]]]:
        portion: dict[str, tuple[Query, bytes]] = {}
        size = 0
        for query in queries:
            name = query.custom_id if query.custom_id not in portion else query.digest
            line = self.service.line(name, self.concessions.apply(self.dialect.body(self.model, query)))
            if portion and (size + len(line) > self.service.most_bytes or len(portion) == self.service.most_requests):
                yield portion
                portion, size = {}, 0
            portion[name] = query, line
            size += len(line) + 1
        if portion:
            yield portion

    async def _collect(self, job: Job, left: Open) -> None:
        """Wait for a job's end, and take what it decided."""
        answered = -1
        while (state := await self.service.look(self.exchanges, job.name)) is not None and not state.ended:
            if state.answered != answered:
                answered = state.answered
                self.say(f"batch job {job.name}: {answered} of {len(job.keys)} answered")
            await asyncio.sleep(self.settings.poll_seconds)
        if state is None:
            self.say(f"batch job {job.name} is gone from the server")
            return
        for file in state.files:
            exchange = await self.exchanges.send("GET", file)
            if exchange.status == 200:
                for result in self.service.results(exchange.content):
                    query = left.queries.get(job.keys.get(result.custom_id, ""))
                    if query is not None:
                        self._take(query, self._verdict(result), left)

    def _verdict(self, result: JobResult) -> Verdict:
        if result.status is None:
            return TryAgain("not_worked_on", self.access.without_key(json.dumps(result.body))[:300])
        return judge(result.status, {}, json.dumps(result.body).encode(), self.dialect, self.access)

    def _take(self, query: Query, verdict: Verdict, left: Open) -> None:
        if isinstance(verdict, Completion):
            note(self.notices, verdict, self.model)
            left.done(query, reply_of(verdict, None, self.settings), True)
        elif isinstance(verdict, TryAgain):
            left.failures[query.key] = Failure(verdict.reason, verdict.detail)
            return
        elif isinstance(verdict, RowRefused):
            sent = self.concessions.apply(self.dialect.body(self.model, query))
            if self.concessions.learn(sent, verdict.message):
                return
            left.done(query, Failure(verdict.reason, verdict.message), False)
        del left.queries[query.key]
