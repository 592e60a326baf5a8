"""Questions as batch jobs: one job for all that are asked at once, half the price, answers within a day.

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
from .concessions import Concessions
from .dialect import Dialect
from .job_service import Exchanges, JobResult, JobService
from .ledger import Ledger
from .question import Question
from .reading import Reading, reply_of
from .transport import Transport
from .verdict import RowRefused, TryAgain, Verdict, judge

FILE = "jobs.jsonl"
ROUNDS = 3
"""Jobs that are begun for one question, at most."""
_FIRST_PAUSE = 1.0  # seconds before an exchange is repeated


@dataclass(frozen=True)
class Job:
    """A job that was begun: its id, and what its requests asked (`Question.asked`), by their names in it."""

    name: str
    asked: dict[str, str]


@dataclass
class Open:
    """What of some questions is not decided yet, by what was asked, and why the last attempt at it failed."""

    questions: dict[str, Question]
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
            if isinstance(value, dict) and isinstance(value.get("asked"), dict):
                self.begun.append(Job(str(value.get("job")), value["asked"]))

    async def ask(self, questions: Sequence[Question], done: Done) -> None:
        """Have all questions answered by jobs. Raises PrefmillError where nothing gets better by trying."""
        left = Open({question.asked: question for question in questions}, {}, done)
        for job in [job for job in self.begun if not left.questions.keys().isdisjoint(job.asked.values())]:
            self.say(f"batch job {job.name} was begun before and is picked up")
            await self._collect(job, left)
        for _ in range(ROUNDS):
            if left.questions:
                for job in await self._submit(list(left.questions.values())):
                    await self._collect(job, left)
        for asked, question in left.questions.items():
            done(question, left.failures.get(asked, Failure("missing", f"in none of {ROUNDS} batch jobs")), False)

    async def close(self) -> None:
        """Close the connections and the file of jobs."""
        await self.exchanges.transport.close()
        if self.ledger is not None:
            self.ledger.close()

    async def _submit(self, questions: Sequence[Question]) -> list[Job]:
        """Begin a job over the questions, or several where one would be too large."""
        portions, jobs = self._portions(questions), []
        # written in a thread: a thousand images take their time
        while portion := await asyncio.to_thread(next, portions, None):
            name = await self.service.submit(self.exchanges, [line for _, line in portion.values()])
            job = Job(name, {custom_id: question.asked for custom_id, (question, _) in portion.items()})
            if self.ledger is not None:
                self.ledger.append({"job": job.name, "asked": job.asked})
                self.ledger.sync()
            self.begun.append(job)
            jobs.append(job)
            self.say(f"batch job {name} was begun: {len(portion)} requests")
        return jobs

    def _portions(self, questions: Sequence[Question]) -> Iterator[dict[str, tuple[Question, bytes]]]:
        portion: dict[str, tuple[Question, bytes]] = {}
        size = 0
        for question in questions:
            name = question.custom_id if question.custom_id not in portion else question.asked
            line = self.service.line(name, self.concessions.apply(self.dialect.body(self.model, question)))
            if portion and (size + len(line) > self.service.most_bytes or len(portion) == self.service.most_requests):
                yield portion
                portion, size = {}, 0
            portion[name] = question, line
            size += len(line) + 1
        if portion:
            yield portion

    async def _collect(self, job: Job, left: Open) -> None:
        """Wait for a job's end, and take what it decided."""
        answered = -1
        while (state := await self.service.look(self.exchanges, job.name)) is not None and not state.ended:
            if state.answered != answered:
                answered = state.answered
                self.say(f"batch job {job.name}: {answered} of {len(job.asked)} answered")
            await asyncio.sleep(self.settings.poll_seconds)
        if state is None:
            self.say(f"batch job {job.name} is gone from the server")
            return
        for file in state.files:
            exchange = await self.exchanges.send("GET", file)
            if exchange.status == 200:
                for result in self.service.results(exchange.content):
                    question = left.questions.get(job.asked.get(result.custom_id, ""))
                    if question is not None:
                        self._take(question, self._verdict(result), left)

    def _verdict(self, result: JobResult) -> Verdict:
        if result.status is None:
            return TryAgain("not_worked_on", self.access.without_key(json.dumps(result.body))[:300])
        return judge(result.status, {}, json.dumps(result.body).encode(), self.dialect, self.access)

    def _take(self, question: Question, verdict: Verdict, left: Open) -> None:
        if isinstance(verdict, Reading):
            left.done(question, reply_of(verdict, None, self.settings), True)
        elif isinstance(verdict, TryAgain):
            left.failures[question.asked] = Failure(verdict.reason, verdict.detail)
            return
        elif isinstance(verdict, RowRefused):
            sent = self.concessions.apply(self.dialect.body(self.model, question))
            if self.concessions.learn(sent, verdict.message):
                return
            left.done(question, Failure(verdict.reason, verdict.message), False)
        del left.questions[question.asked]
