"""Answers that are a filled-in form: JSON of a pydantic model, checked here whatever the backend promised.

Some servers hold a model to a JSON schema, some say that they do, and a model run here is only asked. So the form is
described in the request, handed to the backend, and what comes back is read strictly: one object, no key twice, no NaN,
every value of its own type and within its bounds. Code fences and talk around the object are allowed. What does not fit
is asked for once more, with another seed and the complaint, and is then a `Failure` with its reason:

    no_json        nothing that is JSON          truncated   cut at max_new_tokens before the object ended
    invalid_json   a key twice, NaN, too deep    ambiguous   several objects that differ
    wrong_form     wrong keys, types or values; a form may name some of them otherwise (`Form.reasons`)
    refusal        no JSON, but words that decline
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ..settings import Sampling
from .interface import Failure, Reply, Request, Responder

_OTHER_SEED = 0x5DEECE66D  # any constant: the second try must not draw what the first one did
_LONGEST = 200_000  # characters of an answer that are read
_DECLINES = re.compile(
    r"\W*(((i['’]m|i am) )?(very |so |really )?(sorry|afraid|unable)\b"
    r"|i (can|could|will|do|must)(not|n?['’]t)\b|i (won['’]t|must decline)\b"
    r"|as an? (ai|assistant|language model)\b|(i )?apologi[sz]e\b)",
    re.IGNORECASE,
)


class Form(BaseModel):
    """The base of every form: no other keys, no value converted from another type, nothing infinite.

    A field's description is what the model is told. Declare a reason before what it is the reason for: models write in
    that order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    reasons: ClassVar[dict[str, str]] = {}
    """By pydantic's type of an error, such as `too_long`: another word for it than `wrong_form`."""


F = TypeVar("F", bound=Form)


@dataclass(frozen=True)
class Forms(Generic[F]):
    """What came of requests: `filled` one each, in their order; `replies` all that were made, first and later tries."""

    filled: list[F | Failure]
    replies: list[Reply]


class UnfitAnswer(Exception):
    """Why a text is no filled-in form: a word for counting, and a complaint that quotes nothing of the text."""

    def __init__(self, reason: str, complaint: str) -> None:
        super().__init__(complaint)
        self.reason, self.complaint = reason, complaint


def ask_forms(
    responder: Responder, requests: Sequence[Request], form: type[F], sampling: Sampling, *, retries: int = 1
) -> Forms[F]:
    """Ask for a form per request; what does not fit is asked for again, `retries` times at most.

    A `Failure` of the backend is not asked for again: that has tried by itself. Raises PrefmillError as the responder
    does.
    """
    schema, described = form.model_json_schema(), described_form(form)
    asked = [replace(request, text=f"{request.text}\n\n{described}") for request in requests]
    filled: dict[int, F | Failure] = {}
    replies: list[Reply] = []
    places, trying = list(range(len(asked))), asked
    for attempt in range(retries + 1):
        if not places:
            break
        got = responder.answer(trying, sampling, schema)
        replies += got
        unfit: dict[int, UnfitAnswer] = {}
        for place, reply in zip(places, got, strict=True):
            try:
                filled[place] = reply if isinstance(reply, Failure) else _form_of(form, reply)
            except UnfitAnswer as fault:
                unfit[place] = fault
                filled[place] = Failure(fault.reason, fault.complaint, reply.seconds, reply.cost)
        places = list(unfit)
        trying = [_again(asked[place], fault, attempt + 1) for place, fault in unfit.items()]
    return Forms([filled[place] for place in range(len(asked))], replies)


def read_form(form: type[F], text: str) -> F:
    """Return the form that a text holds. Raises UnfitAnswer where it holds none, or several that differ."""
    try:
        found = {json.dumps(value, sort_keys=True) for value in _objects(text[:_LONGEST])}
    except RecursionError as error:
        raise UnfitAnswer("invalid_json", "nested too deeply") from error
    if len(found) != 1:
        raise UnfitAnswer(
            *(("ambiguous", "several different JSON objects") if found else ("no_json", "no JSON object"))
        )
    try:
        return form.model_validate_json(found.pop())
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # a key that is not the form's was chosen by the model
        place = "a key" if problem["type"] == "extra_forbidden" else ".".join(map(str, problem["loc"])) or "the object"
        reason = form.reasons.get(problem["type"], "wrong_form")
        raise UnfitAnswer(reason, f"{place}: {problem['msg']}") from None


def described_form(form: type[Form]) -> str:
    """What a model that is held to nothing has to be told."""
    schema = json.dumps(_without_titles(form.model_json_schema()), ensure_ascii=False)
    return f"Reply with one JSON object and nothing else, valid under this JSON schema:\n{schema}"


def _form_of(form: type[F], reply: Any) -> F:
    try:
        return read_form(form, reply.text)
    except UnfitAnswer as fault:
        if fault.reason == "no_json" and reply.finish_reason == "length":
            complaint = f"cut after {reply.tokens} tokens, before the object ended: be shorter"
            raise UnfitAnswer("truncated", complaint) from None
        if fault.reason == "no_json" and _DECLINES.match(reply.text):
            raise UnfitAnswer("refusal", "it declines") from None
        raise


def _again(request: Request, fault: UnfitAnswer, attempt: int) -> Request:
    complaint = f"An earlier reply could not be used: {fault.complaint}. Reply with the JSON object only."
    return replace(
        request,
        text=f"{request.text}\n\n{complaint}",
        seed=(request.seed ^ _OTHER_SEED * attempt) & (2**63 - 1),
        name=f"{request.name}-again{attempt}" if request.name else "",
    )


def _without_titles(schema: Any) -> Any:
    if isinstance(schema, dict):  # a title is a text; under `properties` it would be a field of that name
        kept = {key: value for key, value in schema.items() if key != "title" or not isinstance(value, str)}
        return {key: _without_titles(value) for key, value in kept.items()}
    return [_without_titles(value) for value in schema] if isinstance(schema, list) else schema


def _objects(text: str) -> Iterator[Any]:
    """The outermost JSON objects of a text. Raises UnfitAnswer for what begins as one and is none.

    Nothing is looked for inside of what is broken: an object quoted there is somebody else's.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_keys_once, parse_constant=_refuse)
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            raise UnfitAnswer("no_json", f"not valid JSON ({error.msg.lower()})") from None
        except ValueError:  # Python reads no integer of more than 4,300 digits
            raise UnfitAnswer("invalid_json", "a number too long") from None
        yield value
        start = text.find("{", end)


def _keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise UnfitAnswer("invalid_json", "a key twice")
    return values


def _refuse(name: str) -> NoReturn:
    raise UnfitAnswer("invalid_json", f"{name} is no number in JSON")
