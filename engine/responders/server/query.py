"""A request together with everything that its answer depends on, under a digest: what an answer is kept by."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ...settings import Sampling
from ..interface import Request


@dataclass(frozen=True)
class Query:
    """A request, how it is sampled, and `asked`: the digest of both, of the model and of its server."""

    request: Request
    sampling: Sampling
    schema: dict[str, Any] | None
    asked: str

    @classmethod
    def of(cls, request: Request, sampling: Sampling, schema: dict[str, Any] | None, *model: str) -> Query:
        """Return a request as a query to a model, which `model` names in full."""
        images = [_pixels_digest(image) for image in request.images]
        parts = [*model, sampling.model_dump(), schema, request.seed, request.text, images]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return cls(request, sampling, schema, digest[:32])

    @property
    def key(self) -> str:
        """What its answer is kept under: the caller's name for it, and what was asked."""
        return f"{self.request.name}:{self.asked}"

    @property
    def custom_id(self) -> str:
        """Its name in a batch job: the caller's where it is one that all servers take."""
        return self.request.name if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", self.request.name) else self.digest

    @property
    def digest(self) -> str:
        """Another name for it, which no other query has."""
        return hashlib.sha256(self.key.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def png_base64(image: Image.Image) -> str:
    """Return an image as a PNG in base64: nothing of it is lost on the way."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG", compress_level=1)  # the time is ours, the bytes hardly count
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _pixels_digest(image: Image.Image) -> str:
    return hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).hexdigest()
