"""Who writes text-to-image prompts: the grammar of a topic, or a model behind the one interface for all models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ...base.errors import PrefmillError
from ...engine.settings import Sampling
from ..records import content_id, seed_for
from ..usage import Usage
from .grammar import number_for
from .journal import ReplyJournal
from .reading import Reader, ReadTexts
from .topics import START, Topic
from .wording import Wording, fill

if TYPE_CHECKING:
    from ...engine.responders.interface import Responder

REQUEST = "prompts.txt"
PROMPT_READER = Reader(fewest_words=5, most_words=120)
"""What a usable prompt is, in words: a scene takes a few, and SD3 reads 256 tokens of T5 and 77 of CLIP."""


@dataclass(frozen=True)
class Order:
    """A request to a writer: the topic, and which request about it this is, from 0."""

    topic: Topic
    number: int


class PromptWriter(Protocol):
    """Writes prompts to order. The same order gets the same texts."""

    key: str
    batch_size: int
    per_order: int
    """Texts that one order brings, about."""
    patience: int
    """Orders in a row that bring nothing new, before a topic is given up."""
    usage: Usage | None
    """What models took so far; None where there is none."""

    def write(self, orders: Sequence[Order]) -> list[ReadTexts]:
        """Return what was written, an entry for each order."""
        ...


class GrammarWriter:
    """Writes from the topics' grammars: nothing external, nothing to keep, one text an order."""

    key, batch_size, per_order, patience = "grammar", 256, 1, 300
    usage: Usage | None = None

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def write(self, orders: Sequence[Order]) -> list[ReadTexts]:
        """Return one text each. Raises PrefmillError for a topic without a grammar."""
        return [ReadTexts([self._text(order)]) for order in orders]

    def _text(self, order: Order) -> str:
        if order.topic.grammar is None:
            raise PrefmillError(f"the topic {order.topic.name!r} has no grammar", "write one, or name a model")
        text = order.topic.grammar.write(START, number_for(self.seed, order.topic.name, order.number))
        return text[:1].upper() + text[1:]


class ModelWriter:
    """Asks a model for some prompts at a time, each time about the next aspect of the topic."""

    patience = 8

    def __init__(
        self,
        responder: Responder,
        wording: Wording,
        journal: ReplyJournal,
        *,
        sampling: Sampling,
        seed: int,
        per_order: int,
        batch_size: int,
    ) -> None:
        self.responder, self.journal, self.sampling, self.seed = responder, journal, sampling, seed
        self.key, self.per_order, self.batch_size = responder.key, per_order, batch_size
        self.request = wording.request(REQUEST, ("topic", "count"), ("hint", "aspect"))
        self.usage: Usage | None = Usage()

    def write(self, orders: Sequence[Order]) -> list[ReadTexts]:
        """Return what was read of each reply; a request without an answer is a refusal with its reason."""
        from ...engine.responders.interface import Failure, Request

        requests = []
        for order in orders:
            text = self._text(order)
            name = content_id("prompts", self.key, text, self.sampling.model_dump_json(), self.seed, order.number)
            requests.append(Request(text, seed_for(name), (), name))
        names = [request.name for request in requests]
        replies = self.journal.find(names)
        if replies is None:
            replies = self.responder.answer(requests, self.sampling)
            self.journal.keep(names, replies)
        self.usage = (self.usage or Usage()) + Usage.of(replies)
        readings = []
        for request, reply in zip(requests, replies, strict=True):
            if isinstance(reply, Failure):
                reading = ReadTexts()
                reading.refuse(reply.reason, reply.detail)
            else:
                reading = PROMPT_READER.read(reply.text, request.text, cut=reply.finish_reason == "length")
            readings.append(reading)
        return readings

    def _text(self, order: Order) -> str:
        topic = order.topic
        aspect = topic.aspects[order.number % len(topic.aspects)]
        values = {"topic": topic.name, "hint": topic.hint, "aspect": aspect, "count": str(self.per_order)}
        return fill(self.request, values)
