"""A model on somebody else's machine. What it is asked is paid for, so every answer is kept before it is returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...settings import Sampling
from ..interface import Reply, Request, Responder
from ..settings import ModelChoice
from .access import Access, access_of
from .anthropic_jobs import AnthropicJobs
from .asker import Asker
from .calls import DirectCalls
from .chat_completions import CHAT_COMPLETIONS
from .dialect import Dialect
from .event_loop import EventLoop
from .job_service import JobService
from .jobs import BatchJobs
from .journal import Journal
from .messages import MESSAGES
from .openai_jobs import OpenAIJobs
from .query import Query

DIALECTS: dict[str, Dialect] = {"openai": CHAT_COMPLETIONS, "anthropic": MESSAGES}
JOBS: dict[str, Callable[[], JobService]] = {"openai": OpenAIJobs, "anthropic": AnthropicJobs}
"""By the first word of a backend."""


class ServerResponder(Responder):
    """A model on a server; `key` names it as the server does, since its weights are not to be seen."""

    def __init__(self, choice: ModelChoice, access: Access, asker: Asker) -> None:
        address = urlsplit(access.url)
        self.key = f"{choice.model}@{address.netloc}{address.path}"
        self._identity = (choice.backend.partition("_")[0], access.url, choice.model)
        self.asker = asker
        self.loop = EventLoop()
        self.journal: Journal | None = None

    @classmethod
    def of(cls, choice: ModelChoice) -> ServerResponder:
        """Return the model that a configuration names. Raises PrefmillError where its key is missing."""
        access = access_of(choice)
        vendor, _, in_jobs = choice.backend.partition("_")
        what = choice.model, DIALECTS[vendor], access, choice.server
        return cls(choice, access, BatchJobs(*what, JOBS[vendor]()) if in_jobs else DirectCalls(*what))

    @property
    def notices(self) -> tuple[str, ...]:
        """What the server did not take, and what followed from it."""
        return tuple(self.asker.notices)

    def tell(self, say: Callable[[str], None]) -> None:
        """Learn whom to tell what takes long."""
        self.asker.say = say

    def answer(
        self, requests: Sequence[Request], sampling: Sampling, schema: dict[str, Any] | None = None
    ) -> list[Reply]:
        """Return one reply per request, those that are kept without asking for them again.

        Raises PrefmillError where nothing gets better by trying: a wrong key, an unknown model, an empty account, a
        server that does not answer.
        """
        queries = [Query.of(request, sampling, schema, *self._identity) for request in requests]
        replies: dict[str, Reply] = {}
        if self.journal is not None:
            kept = ((query.key, self.journal.get(query)) for query in queries)
            replies = {key: reply for key, reply in kept if reply is not None}

        def done(query: Query, reply: Reply, worked: bool) -> None:
            if self.journal is not None and worked:
                self.journal.keep(query, reply)
            replies[query.key] = reply

        open_queries = {query.key: query for query in queries if query.key not in replies}
        if open_queries:
            try:
                self.loop.run(self.asker.ask(list(open_queries.values()), done))
            finally:
                if self.journal is not None:
                    self.journal.sync()
        return [replies[query.key] for query in queries]

    def keep_in(self, folder: Path) -> None:
        """Keep answers in a folder from now on, and take those that are there for answered."""
        self.journal = Journal(folder)
        self.asker.keep_in(folder, len(self.journal))

    def close(self) -> None:
        """Close the connections and the journal."""
        if self.loop.closed:
            return
        self.loop.run(self.asker.close())
        self.loop.close()
        if self.journal is not None:
            self.journal.close()
