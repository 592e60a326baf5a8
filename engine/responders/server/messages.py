"""Anthropic's messages. It knows no seed: a drawn answer cannot be drawn again.

https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from typing import Any

from ....base.characters import encodable
from .completion import Completion, Unreadable
from .dialect import Dialect
from .query import Query, png_base64

_FINISHES = {
    **dict.fromkeys(("end_turn", "stop_sequence"), "stop"),
    **dict.fromkeys(("max_tokens", "model_context_window_exceeded"), "length"),
}


def _headers(key: str | None) -> dict[str, str]:
    return {"anthropic-version": "2023-06-01", **({"x-api-key": key} if key else {})}


def _body(model: str, query: Query) -> dict[str, Any]:
    request, sampling = query.request, query.sampling
    pictures = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png_base64(image)}}
        for image in request.images
    ]
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": sampling.max_new_tokens,
        "messages": [{"role": "user", "content": [*pictures, {"type": "text", "text": encodable(request.text)}]}],
        "temperature": sampling.temperature,
    }
    if sampling.top_p < 1.0:
        body["top_p"] = sampling.top_p
    if query.schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": query.schema}}
    return body


def _read(data: Any) -> Completion:
    try:
        blocks, finish, usage = data["content"], data["stop_reason"], data.get("usage") or {}
        text = "".join(block["text"] for block in blocks if block["type"] == "text")
        read = [usage.get(name) for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")]
    except (TypeError, KeyError, AttributeError) as error:
        raise Unreadable(f"a reply without {error}") from error
    if not isinstance(finish, str) or not finish:
        raise Unreadable(f"a reply that ended with {finish!r}")
    told = [count for count in read if isinstance(count, int)]
    tokens, model = usage.get("output_tokens"), data.get("model")
    return Completion(
        text,
        _FINISHES.get(finish, finish),
        tokens if isinstance(tokens, int) else None,
        sum(told) if told else None,
        model if isinstance(model, str) else None,
    )


MESSAGES = Dialect(
    path="/messages",
    headers=_headers,
    body=_body,
    read=_read,
    optional={
        "output_config": "answers are not held to their schema, only checked against it",
        "top_p": "answers are drawn from all tokens",
        "temperature": "answers are drawn at the model's own temperature",
    },
    renamed={},
)
