"""Prompts by topic until each topic has what was asked: read, held against all that was kept, counted.

Writers are asked in rounds, each for what is missing. What is kept depends on the texts and their order alone, so the
same command comes to the same prompts, also after a kill. A topic from which several orders in a row bring nothing new
is given up; what is missing then is reported and not made up.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Any

from ...base.progress import Progress
from ..records import content_id
from .near_duplicates import NearDuplicates
from .topics import Topic
from .writers import Order, PromptWriter

_WORK = "prompts"


@dataclass
class Coverage:
    """A topic's account: `asked` prompts, `read` texts, of which `kept` and the `rejected` by reason.

    `patience`: orders in a row that bring nothing new, before the topic is given up.
    """

    asked: int
    patience: int
    read: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    words: set[str] = field(default_factory=set)
    orders: int = 0
    in_vain: int = 0

    @property
    def missing(self) -> int:
        """How many prompts are still to come."""
        return self.asked - self.kept

    @property
    def open(self) -> bool:
        """Whether more is asked for it."""
        return self.missing > 0 and self.in_vain < self.patience

    def to_json(self) -> dict[str, Any]:
        """Return the account as plain values; of the words how many different ones there are."""
        rejected = dict(sorted(self.rejected.items()))
        return {
            "asked": self.asked,
            "read": self.read,
            "kept": self.kept,
            "rejected": rejected,
            "words": len(self.words),
        }


@dataclass(frozen=True)
class WrittenPrompt:
    """A prompt that was kept; a row that `prefmill run --prompts` reads."""

    id: str
    text: str
    topic: str


@dataclass(frozen=True)
class RejectedText:
    """A text that was not kept, and why; `repeats` names the prompt that it repeats."""

    topic: str
    reason: str
    text: str
    repeats: str | None = None
    similarity: float | None = None


@dataclass
class PromptWriting:
    """Prompts in the making: `count` over all topics, as evenly as it can be."""

    topics: Sequence[Topic]
    count: int
    writer: PromptWriter
    seen: NearDuplicates
    progress: Progress = field(default_factory=Progress)
    prompts: list[WrittenPrompt] = field(default_factory=list)
    rejects: list[RejectedText] = field(default_factory=list)
    coverage: dict[str, Coverage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        share, more = divmod(self.count, len(self.topics))
        patience = self.writer.patience
        self.coverage = {
            topic.name: Coverage(share + (place < more), patience) for place, topic in enumerate(self.topics)
        }

    def run(self) -> None:
        """Write until every topic has its prompts or is given up; then put the prompts into their topics' order."""
        self.progress.begin(_WORK, self.count, unit=_WORK)
        while orders := deque(self._round()):
            while batch := self._batch(orders):
                before = len(self.prompts)
                for order, reading in zip(batch, self.writer.write(batch), strict=True):
                    self._take(order.topic.name, reading.texts, reading.refused)
                self.progress.step(_WORK, len(self.prompts) - before)
        places = {topic.name: place for place, topic in enumerate(self.topics)}
        self.prompts.sort(key=lambda prompt: places[prompt.topic])
        self.progress.end(_WORK, f"{len(self.prompts)} of {self.count}, {len(self.rejects)} texts rejected")

    def to_json(self) -> dict[str, Any]:
        """Return what was asked, read, kept and rejected, by topic and in all."""
        topics = {name: account.to_json() for name, account in self.coverage.items()}
        usage = None if self.writer.usage is None else asdict(self.writer.usage)
        rejected = dict(sum((account.rejected for account in self.coverage.values()), Counter()))
        return {
            "writer": self.writer.key,
            "asked": self.count,
            "kept": len(self.prompts),
            "rejected": rejected,
            "usage": usage,
            "topics": topics,
        }

    def _batch(self, orders: deque[Order]) -> list[Order]:
        """Take the next orders out of a round; those of a topic that needs no more, or is given up, are left out."""
        batch: list[Order] = []
        while orders and len(batch) < self.writer.batch_size:
            order = orders.popleft()
            if self.coverage[order.topic.name].open:
                batch.append(order)
        return batch

    def _round(self) -> Iterator[Order]:
        """Yield the next round's orders, topics taking turns, so that near duplicates fall on all of them alike."""
        rounds = []
        for topic in self.topics:
            account = self.coverage[topic.name]
            if account.open:
                wanted = ceil(account.missing / self.writer.per_order)
                rounds.append([Order(topic, account.orders + number) for number in range(wanted)])
                account.orders += wanted
        for place in range(max(map(len, rounds), default=0)):
            yield from (orders[place] for orders in rounds if place < len(orders))

    def _take(self, topic: str, texts: Sequence[str], refused: Sequence[Any]) -> None:
        account = self.coverage[topic]
        account.read += len(texts) + len(refused)
        kept = account.kept
        for one in refused:
            self._reject(RejectedText(topic, one.reason, one.line))
        for text in texts:
            if not account.missing:
                self._reject(RejectedText(topic, "surplus", text))
                continue
            name = f"{topic}-{content_id('written', topic, text)[:12]}"
            if repeated := self.seen.repeats(name, text):
                self._reject(RejectedText(topic, "near_duplicate", text, repeated[0], round(repeated[1], 4)))
                continue
            self.prompts.append(WrittenPrompt(name, text, topic))
            account.kept += 1
            account.words.update(text.lower().split())
        account.in_vain = 0 if account.kept > kept or not account.missing else account.in_vain + 1

    def _reject(self, reject: RejectedText) -> None:
        self.coverage[reject.topic].rejected[reject.reason] += 1
        self.rejects.append(reject)
