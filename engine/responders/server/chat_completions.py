"""OpenAI's chat completions, which nearly every server speaks: vLLM, SGLang, llama.cpp, Ollama, most vendors.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from typing import Any

from ....base.characters import encodable
from .completion import Completion, Unreadable
from .dialect import Dialect
from .query import Query, png_base64

_FINISHES = {
    **dict.fromkeys(("stop", "eos", "eos_token", "stop_sequence", "end_turn"), "stop"),
    **dict.fromkeys(("length", "max_tokens"), "length"),
}


def _headers(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _body(model: str, query: Query) -> dict[str, Any]:
    request, sampling = query.request, query.sampling
    pictures = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png_base64(image)}"}}
        for image in request.images
    ]
    # some servers take parts only where there is an image
    content: Any = (
        [*pictures, {"type": "text", "text": encodable(request.text)}] if pictures else encodable(request.text)
    )
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "seed": request.seed,
    }
    if sampling.top_p < 1.0:
        body["top_p"] = sampling.top_p
    if query.schema is not None:
        answer = {"name": "answer", "schema": query.schema, "strict": is_strict(query.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": answer}
    return body


def is_strict(schema: Any) -> bool:
    """Return whether OpenAI can hold a model to a schema: every object closed, all of its properties required."""
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties):
            return False
    return all(map(is_strict, schema.values()))


def _read(data: Any) -> Completion:
    try:
        choice = data["choices"][0]
        message, finish = choice["message"], choice["finish_reason"]
        content, refusal = message.get("content"), message.get("refusal")
        usage = data.get("usage") or {}
        counts = usage.get("completion_tokens"), usage.get("prompt_tokens")
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise Unreadable(f"a reply without {error}") from error
    if not isinstance(finish, str) or not finish:
        raise Unreadable(f"a reply that ended with {finish!r}")
    if refusal and not content:
        finish, content = "refusal", str(refusal)
    tokens, prompt_tokens = (count if isinstance(count, int) else None for count in counts)
    model = data.get("model")
    return Completion(
        *(_text(content), _FINISHES.get(finish, finish), tokens, prompt_tokens),
        model=model if isinstance(model, str) else None,
    )


def _text(content: Any) -> str:
    if isinstance(content, list):  # some servers answer in parts, as they are asked
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    if content is None:
        return ""
    if not isinstance(content, str):
        raise Unreadable(f"a reply whose content is a {type(content).__name__}")
    return content


CHAT_COMPLETIONS = Dialect(
    path="/chat/completions",
    headers=_headers,
    body=_body,
    read=_read,
    optional={
        "response_format": "answers are not held to their schema, only checked against it",
        "seed": "answers cannot be drawn again",
        "temperature": "answers are drawn at the model's own temperature",
        "top_p": "answers are drawn from all tokens",
    },
    renamed={"max_tokens": "max_completion_tokens"},
)
