"""The records every stage reads and writes: frozen, typed, and named by what they were made from.

An id is a hash of a record's inputs, never of a path: the same prompt, seed and model give the same id on every
machine, so a rerun finds its own work and two runs can be merged. Model outputs that differ in their last bits
between machines (a score, an image's pixels) stay out of the ids.

A counter gets into them in one place. The published seeds of candidates are `index * 1000 + k`, and a seed is one of
the inputs of an image: by default, the same prompt on another line is drawn from other noise, and is another
candidate. With `generate.seeds=id` the seed comes from the prompt's id, and no id depends on an order.

One prompt's way through the records:

    Prompt -> Candidate x 4 -> Score x 4 -> Selection -> Instruction -> Response x K -> Score x K -> Pair
                            -> Annotation x 4 x aspects -> ImagePreference

A row that cannot go on becomes a `Reject` with its reason; it is never an empty string or a missing line.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

ID_LENGTH = 32  # hex digits = 128 bits: no collisions in practice up to 10^15 records

_compact = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def content_id(kind: str, *parts: str | int | float | bytes | None) -> str:
    """Return the id of a record of `kind` made from `parts`: 32 hex digits of a SHA-256."""
    digest = hashlib.sha256()
    plain = [hashlib.sha256(part).hexdigest() if isinstance(part, bytes) else part for part in parts]
    digest.update(_compact([kind, *plain]).encode())
    return digest.hexdigest()[:ID_LENGTH]


def seed_for(record_id: str, *parts: str | int) -> int:
    """Return a 63-bit seed that depends on a record's id alone, so that a rerun draws the same numbers."""
    return int(content_id("seed", record_id, *parts)[:16], 16) >> 1


def is_held_out(prompt_id: str, share: float) -> bool:
    """Return whether a prompt is among the `share` that are kept for evaluation; it depends on nothing else."""
    return seed_for(prompt_id, "held out") / 2**63 < share


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text-to-image prompt. `index` counts from 1 in reading order; `source` is the input's own name for it.

    `instructions` are what the input itself wants to be asked about the image.
    """

    id: str
    index: int
    text: str
    source: str
    topic: str | None = None
    instructions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One image of a prompt, with what it takes to draw it again. `image` holds encoded bytes (PNG, WebP, JPEG).

    Imported images may lack a prompt and its settings: those are None.
    """

    id: str
    prompt_id: str | None
    width: int
    height: int
    image: bytes
    model: str
    source: str | None = None
    seed: int | None = None
    guidance: float | None = None
    steps: int | None = None
    noise: str | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A scorer's verdict on a candidate or a response. `truncated`: the scorer did not see the whole text."""

    subject_id: str
    scorer: str
    value: float
    truncated: bool = False
    attributes: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one of several judges says of a response, with its reason where it gives one."""

    subject_id: str
    judge: str
    value: float
    truncated: bool = False
    attributes: dict[str, float] | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """What an annotator says of one aspect of an image, seen beside the prompt's others: 1 to 5, None: it abstained.

    `position` is the place the image had in the request, from 0; `presentation` counts the orders the images of the
    prompt were shown in, from 0.
    """

    subject_id: str
    prompt_id: str
    annotator: str
    aspect: str
    rating: int | None
    reason: str | None
    position: int
    presentation: int = 0


@dataclass(frozen=True, slots=True)
class ImagePreference:
    """Of two images of one prompt, the better one: by one aspect, or by all of them (`aspect` is then `overall`).

    `margin` is by how much, in units of the ratings; `prompt` is the prompt's text.
    """

    id: str
    prompt_id: str
    prompt: str
    aspect: str
    chosen_id: str
    rejected_id: str
    margin: float | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """The candidate that goes on for a prompt. `margin` is the distance to the runner-up (None when alone)."""

    prompt_id: str
    image_id: str
    value: float
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class Instruction:
    """What the responders are asked about an image. `source` says where the text came from."""

    id: str
    image_id: str
    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Response:
    """One responder's answer, exactly as it was decoded or imported."""

    id: str
    image_id: str
    instruction_id: str
    model: str
    text: str
    finish_reason: str | None = None
    tokens: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference pair, ready to train on. The texts are the cleaned ones; the ids lead back to the raw ones."""

    id: str
    image_id: str
    instruction: str
    chosen: str
    rejected: str
    chosen_id: str | None = None
    rejected_id: str | None = None
    margin: float | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that went no further: which one, where, and why. `detail` is for people."""

    subject_id: str
    stage: str
    reason: str
    detail: str = ""


Record = (
    Prompt | Candidate | Score | Judgement | Annotation | ImagePreference | Selection | Instruction | Response | Pair
)
