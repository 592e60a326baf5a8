"""Which model answers, and what runs it: the settings that responders, writers and judges have in common."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from ...base.settings import Settings


class ServerSettings(Settings):
    """How a server is asked. None of it changes an answer."""

    api_key: str | None = Field(
        default=None,
        description="the environment variable that holds the key, empty for none; by default OPENAI_API_KEY or "
        "ANTHROPIC_API_KEY",
    )
    concurrency: int = Field(default=32, ge=1, description="requests in flight")
    timeout: float = Field(default=120.0, gt=0, description="seconds, at most, for one answer")
    attempts: int = Field(default=6, ge=1, description="of one request, before it is a reject")
    prompt_price: float | None = Field(default=None, ge=0, description="of a million prompt tokens")
    answer_price: float | None = Field(default=None, ge=0, description="of a million tokens of answers")
    poll_seconds: float = Field(default=30.0, gt=0, description="between two looks at a batch job")


class VllmSettings(Settings):
    """How vLLM uses the machine. None of it is meant to change an answer."""

    memory_share: float = Field(default=0.9, gt=0, le=1, description="of the GPU's memory")
    max_tokens: int | None = Field(default=None, ge=1, description="context length; by default the model's own")
    images: int = Field(default=1, ge=0, description="in one request, at most")
    start_seconds: float = Field(default=900.0, gt=0, description="until the model has to be loaded")
    stall_seconds: float = Field(default=900.0, gt=0, description="without a finished answer, until it counts as hung")


class ModelChoice(Settings):
    """A model, and what runs it."""

    BATCH_SIZES: ClassVar[Mapping[str, int]] = {
        **{"transformers": 64, "vllm": 256, "openai": 256, "anthropic": 256},
        **{"openai_batch": 1024, "anthropic_batch": 1024},
    }
    """Requests at a time by backend: each queues them by itself, and a batch job takes as many."""

    model: str = Field(description="a folder or hub id; for a server, its own name of the model")
    backend: str = Field(
        default="transformers",
        description="transformers, vllm, openai (any compatible server), anthropic; openai_batch, anthropic_batch",
    )
    url: str | None = Field(default=None, description="of the server; by default its vendor's")
    reproducible: bool = Field(default=False, description="vllm: batch-invariant kernels, slower")
    server: ServerSettings = ServerSettings()
    vllm: VllmSettings = VllmSettings()
    batch_size: int = Field(default=64, ge=1, description="requests at a time; by default what suits the backend")

    @model_validator(mode="before")
    @classmethod
    def _backends_own_batch_size(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "batch_size" in values:
            return values
        size = cls.BATCH_SIZES.get(values.get("backend", "transformers"))
        return values if size is None else {**values, "batch_size": size}


INDEPENDENT = frozenset({"server", "vllm"})
"""The fields of a `ModelChoice` that no answer depends on."""
