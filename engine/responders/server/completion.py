"""What a server's answer comes to, whatever its format: a text with its counts, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from ....base.characters import encodable
from ..interface import Answer, Failure, Reply
from ..settings import ServerSettings


class Unreadable(Exception):
    """A reply that is not what the format says: cut off, or from something that is not such a server."""


@dataclass(frozen=True)
class Completion:
    """One whole reply. `finish` is stop, length, or why the model gave no text; counts are None where not told."""

    text: str
    finish: str
    tokens: int | None = None
    prompt_tokens: int | None = None
    model: str | None = None
    """The server's own name for what answered."""


def reply_of(completion: Completion, seconds: float | None, settings: ServerSettings) -> Reply:
    """Return the reply that a completion is; a text of nothing but spaces is a failure."""
    cost = cost_of(completion, settings)
    tokens = completion.tokens or 0
    if completion.finish not in ("stop", "length"):
        return Failure(completion.finish, encodable(completion.text)[:500], seconds, cost)
    text = encodable(completion.text).strip()
    if not text:
        return Failure("empty", f"ended with {completion.finish!r} after {tokens} tokens", seconds, cost)
    finish = "stop" if completion.finish == "stop" else "length"
    return Answer(text, finish, tokens, completion.prompt_tokens, seconds, cost)


def cost_of(completion: Completion, settings: ServerSettings) -> float | None:
    """Return what a reply cost, in the currency of the prices; None where no price is set."""
    priced = [
        (completion.prompt_tokens, settings.prompt_price),
        (completion.tokens, settings.answer_price),
    ]
    if all(price is None for _, price in priced):
        return None
    return sum((count or 0) * (price or 0.0) for count, price in priced) / 1e6


def note(notices: list[str], completion: Completion, model: str) -> None:
    """Add what a reader of a model's answers should know of a completion, once each, and not endlessly many."""
    remarks = []
    if completion.tokens is None:
        remarks.append("the server tells no token counts: 0 are recorded, and no cost of them")
    if completion.model not in (None, model):
        remarks.append(f"the server calls what answered {completion.model[:100]!r}")
    notices += [remark for remark in remarks if remark not in notices and len(notices) < 16]
