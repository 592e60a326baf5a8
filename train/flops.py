"""Floating-point operations of a training, by what is computed and how: TRL's way, ours, and the steps between them.

A multiply-add is two operations. The base is frozen, so that a backward pass costs what the forward pass costs; the
adapter, which learns, and attention cost twice that. Attention is counted as causal: half of the square. Norms,
activations, the softmax and the optimizer are left out: under one per cent at the sizes that are trained. In the first
layer the gradient of the input is counted although nobody needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .shape import ModelShape


@dataclass(frozen=True)
class PairLengths:
    """Tokens of a pair's prompt, image included, and of its answers; `patches` and `tiles` its image is cut into."""

    prompt: int
    chosen: int
    rejected: int
    image_id: str = ""
    patches: int = 0
    tiles: int = 1

    @property
    def shared(self) -> int:
        """Tokens where the prompt is read once."""
        return self.prompt + self.chosen + self.rejected

    @property
    def longer(self) -> int:
        """Tokens of the longer of two rows."""
        return self.prompt + max(self.chosen, self.rejected)


@dataclass(frozen=True)
class Rung:
    """A way of training: what is saved against two padded rows per pair that make everything anew for every step."""

    name: str
    says: str
    shared_prompt: bool = False
    vision_cache: bool = False
    reference_cache: bool = False
    answer_rows: bool = False
    packed: bool = False


def _ladder() -> Iterator[Rung]:
    rung = Rung("trl", "two padded rows per pair")
    yield rung
    for name, says, saving in (
        ("prefix", "+ the prompt is read once for both answers", "shared_prompt"),
        ("vision", "+ image features from the cache", "vision_cache"),
        ("reference", "+ the reference's log-probabilities from the cache", "reference_cache"),
        ("answers", "+ the head on answer rows alone", "answer_rows"),
        ("shared", "+ the pairs of a micro-batch in one row without padding", "packed"),
    ):
        rung = replace(rung, name=name, says=says, **{saving: True})
        yield rung


LADDER = {rung.name: rung for rung in _ladder()}
"""Each takes one saving more; `trl` and `shared` are the backends."""


@dataclass(frozen=True)
class Flops:
    """Floating-point operations, by what they are spent on."""

    policy: float = 0.0
    reference: float = 0.0
    vision: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.policy + self.reference + self.vision


def training_flops(
    shape: ModelShape,
    pairs: Sequence[PairLengths],
    rung: Rung,
    *,
    rank: int,
    batch_size: int = 1,
    epochs: float = 1,
    checkpointing: bool = False,
    theirs_on_answers: bool = False,
) -> Flops:
    """Return what `epochs` over the pairs cost, filling the caches that the rung has once.

    `batch_size` pairs in their order are a micro-batch, and are padded to its longest. `theirs_on_answers`: whether
    TRL's head reads answer rows alone, as it does where there is Triton.
    """
    policy = reference = vision = 0.0
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        tokens, area = batch_tokens(batch, rung), _area(shape, batch, rung)
        compact = rung.answer_rows or (not rung.shared_prompt and theirs_on_answers)
        rows = sum(pair.chosen + pair.rejected for pair in batch) if compact else tokens
        head = 2 * shape.head_weights * rows
        base, adapter = 2 * shape.layer_weights * tokens, 2 * rank * shape.adapter_weights * tokens
        # Their head makes the logits again for the gradient; ours has it from the forward pass.
        policy += 2 * base + 3 * (area + adapter) + head * (2 if rung.shared_prompt else 3)
        policy += base + area + adapter if checkpointing else 0
        reference += base + area + head
        passes = 2 if rung.shared_prompt else 4  # policy and reference, of each row
        vision += 0 if rung.vision_cache else passes * sum(image_flops(shape, pair) for pair in batch)
    if rung.vision_cache:
        vision = sum(image_flops(shape, pair) for pair in {pair.image_id: pair for pair in pairs}.values()) / epochs
    if rung.reference_cache:
        reference /= epochs
    return Flops(policy * epochs, reference * epochs, vision * epochs)


def needed_flops(shape: ModelShape, pairs: Sequence[PairLengths], rank: int) -> float:
    """Return what the steps of one epoch need at least: the policy's passes with everything shared.

    What can be had once and kept, image features and the reference, is left out. The same for every backend, so that
    utilisation by this compares them.
    """
    return training_flops(shape, pairs, LADDER["shared"], rank=rank).policy


def image_flops(shape: ModelShape, pair: PairLengths) -> float:
    """Return what it costs to make what the language model reads of a pair's image."""
    patches = pair.patches + pair.tiles * shape.extra_patches
    attention = 4 * shape.tower_layers * shape.tower_width * patches * patches / pair.tiles
    projector = 2 * shape.projector_weights * pair.patches / shape.merged
    return 2 * shape.tower_weights * patches + attention + projector


def batch_tokens(batch: Sequence[PairLengths], rung: Rung) -> int:
    """Return how many tokens the language model reads of a micro-batch, padding included."""
    if rung.packed:
        return sum(pair.shared for pair in batch)
    if rung.shared_prompt:
        return len(batch) * max(pair.shared for pair in batch)
    return 2 * len(batch) * max(pair.longer for pair in batch)


def _area(shape: ModelShape, batch: Sequence[PairLengths], rung: Rung) -> float:
    """Operations of one forward pass through the attention of all layers: scores and values."""
    if rung.shared_prompt:
        seen = sum(
            (pair.prompt + pair.chosen) ** 2 / 2 + pair.rejected * (pair.prompt + pair.rejected / 2) for pair in batch
        )
    else:
        seen = len(batch) * max(pair.longer for pair in batch) ** 2
    return 4 * shape.layers * shape.query_width * seen
