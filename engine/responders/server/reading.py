"""What a server's answer comes to, whatever its format: a text with its counts, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from ..interface import Answer, Failure, Reply
from ..settings import ServerSettings


class Unreadable(Exception):
    """A reply that is not what the format says: cut off, or from something that is not such a server."""


@dataclass(frozen=True)
class Reading:
    """One whole reply. `finish` is stop, length, or why the model gave no text; counts are None where not told."""

    text: str
    finish: str
    tokens: int | None = None
    prompt_tokens: int | None = None
    model: str | None = None
    """The server's own name for what answered."""


def reply_of(reading: Reading, seconds: float | None, settings: ServerSettings) -> Reply:
    """Return the reply that a reading is; a text of nothing but spaces is a failure."""
    cost = cost_of(reading, settings)
    tokens = reading.tokens or 0
    if reading.finish not in ("stop", "length"):
        return Failure(reading.finish, encodable(reading.text)[:500], seconds, cost)
    text = encodable(reading.text).strip()
    if not text:
        return Failure("empty", f"ended with {reading.finish!r} after {tokens} tokens", seconds, cost)
    finish = "stop" if reading.finish == "stop" else "length"
    return Answer(text, finish, tokens, reading.prompt_tokens, seconds, cost)


def cost_of(reading: Reading, settings: ServerSettings) -> float | None:
    """Return what a reply cost, in the currency of the prices; None where no price is set."""
    priced = [
        (reading.prompt_tokens, settings.prompt_price),
        (reading.tokens, settings.answer_price),
    ]
    if all(price is None for _, price in priced):
        return None
    return sum((count or 0) * (price or 0.0) for count, price in priced) / 1e6


def encodable(text: str) -> str:
    """Return a text that UTF-8 can hold: pairs of surrogates joined, halves of them replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
