"""Many questions about one picture at the price of one look, each seen as if it were the only one.

The picture's states in the language model are computed once, and every question goes on from them. So a yes/no answer
cannot be read off an earlier description, as it could in one long dialogue, and a picture teaches what eight would.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import DynamicCache, LlavaForConditionalGeneration, PreTrainedTokenizerFast
from transformers.cache_utils import DynamicLayer

from .vision_tower import patch_states

IGNORED = -100
_DECISIVE_WEIGHT = 3.0
"""Of an answer's first word: `yes` or `no` is one word of seven, and the only one that has to look."""


@dataclass(frozen=True)
class Turns:
    """N questions with their answers, padded on the right to T tokens; `pictures` [N] says which picture each is about.

    input_ids, labels [N, T] int64, weights [N, T] float32. `labels[n, t]` is what the model should say after token t,
    or IGNORED.
    """

    pictures: torch.Tensor
    input_ids: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor


class Packer:
    """Turns lessons into tokens with a responder's tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.encode = _remembering(tokenizer)
        self.vocabulary = tokenizer.get_vocab()
        self.opening = [self.vocabulary["<s>"], *self.encode("USER:")]
        """What stands before the picture; the question and `ASSISTANT:` stand after it."""
        self.closing = self.encode("ASSISTANT:")

    def pack(self, lessons: Sequence[Sequence[tuple[str, str]]]) -> list[Turns]:
        """(Instruction, answer) pairs per picture to tokens; the first ones, descriptions, apart from the shorter."""
        numbered = [[(number, *turn) for turn in lesson] for number, lesson in enumerate(lessons)]
        first = [turns[0] for turns in numbered]
        rest = [turn for turns in numbered for turn in turns[1:]]
        return [self._together(turns) for turns in (first, rest) if turns]

    def _together(self, turns: Sequence[tuple[int, str, str]]) -> Turns:
        rows = []
        for _, instruction, answer in turns:
            asked = [*self.encode(instruction), *self.closing]
            said = [*self.encode(answer), self.vocabulary["</s>"]]
            before = len(asked) - 1
            labels = [IGNORED] * before + said
            weights = [0.0] * before + [_DECISIVE_WEIGHT] + [1.0] * (len(said) - 1)
            rows.append(([*asked, *said[:-1]], labels, weights))
        length = max(len(ids) for ids, _, _ in rows)
        ids, labels, weights = (
            torch.tensor([values + [fill] * (length - len(values)) for values in column])
            for column, fill in zip(zip(*rows, strict=True), (self.vocabulary["<pad>"], IGNORED, 0.0), strict=True)
        )
        return Turns(torch.tensor([number for number, _, _ in turns]), ids, labels, weights)


def answer_loss(
    model: LlavaForConditionalGeneration, opening: Sequence[int], pixels: torch.Tensor, groups: Sequence[Turns]
) -> torch.Tensor:
    """Weighted mean cross-entropy of all answers about pixels [B, 3, 32, 32]; the vision tower gets no gradient."""
    language, words = model.model.language_model, model.get_input_embeddings()
    with torch.no_grad():
        patches = patch_states(model.model.vision_tower, pixels)
    pictures = model.model.multi_modal_projector(patches)
    begin = words(torch.tensor([list(opening)] * len(pixels)))
    looked = language(inputs_embeds=torch.cat([begin, pictures.to(begin.dtype)], dim=1), use_cache=True).past_key_values
    losses, weights = [], []
    for turns in groups:
        states = language(
            inputs_embeds=words(turns.input_ids), past_key_values=spread_cache(looked, turns.pictures)
        ).last_hidden_state
        said = turns.labels != IGNORED
        logits = model.lm_head(states[said]).float()
        losses.append(functional.cross_entropy(logits, turns.labels[said], reduction="none"))
        weights.append(turns.weights[said])
    weight = torch.cat(weights)
    return (torch.cat(losses) * weight).sum() / weight.sum()


def spread_cache(cache: DynamicCache, rows: torch.Tensor) -> DynamicCache:
    """The states of B beginnings for N continuations: the n-th goes on from beginning `rows[n]`."""
    spread = DynamicCache()
    for number, layer in enumerate(cache.layers):
        assert isinstance(layer, DynamicLayer)
        assert layer.keys is not None
        assert layer.values is not None
        spread.update(layer.keys[rows], layer.values[rows], number)
    return spread


def _remembering(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], list[int]]:
    """Texts repeat: each is tokenised once."""
    known: dict[str, list[int]] = {}

    def encode(text: str) -> list[int]:
        if text not in known:
            known[text] = tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[assignment]
        return known[text]

    return encode
