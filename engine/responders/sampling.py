"""Seeded text sampling that does not depend on the batch: every row draws from its own random stream.

`generate(do_sample=True)` draws the whole batch from one global stream, so a row's text changes with its
neighbours, and a rerun after a crash cannot reproduce it. Adding Gumbel noise to the log-probabilities and taking
the largest is an exact draw from them (Gumbel, 1954), and the noise can come from one generator per row.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from ...base.errors import PrefmillError
from ..settings import Sampling
from .interface import Answer


class GumbelSampling(LogitsProcessor):
    """Turns greedy decoding into sampling: temperature, top-p, then Gumbel noise from each row's own stream."""

    def __init__(self, sampling: Sampling, seeds: Sequence[int]) -> None:
        self.warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
        if sampling.top_p < 1.0:
            self.warpers.append(TopPLogitsWarper(sampling.top_p))
        # On the CPU, so that one seed gives the same noise on every device.
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        """Logits [B, V] to noisy logits [B, V] whose largest entry is the draw."""
        warped = self.warpers(input_ids, scores.float())
        uniform = torch.stack([torch.rand(scores.shape[-1], generator=stream) for stream in self.generators])
        tiny = torch.finfo(torch.float32).tiny  # `rand` may return 0, whose Gumbel value would be -inf
        noise = -torch.log(-torch.log(uniform.clamp_min(tiny)))
        return warped + noise.to(warped.device)


class NanWatch(LogitsProcessor):
    """Remembers whether the model ever produced NaN, without waiting for the device at each step."""

    def __init__(self) -> None:
        self.seen: torch.Tensor | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        """Logits [B, V], unchanged."""
        nan = scores.isnan().any()
        self.seen = nan if self.seen is None else self.seen | nan
        return scores


def keep_stop_tokens_only(model: PreTrainedModel) -> None:
    """Make `sampling` the only source of decoding choices: drop a checkpoint's own temperature, penalties, beams."""
    shipped = model.generation_config
    assert shipped is not None
    end = shipped.eos_token_id if shipped.eos_token_id is not None else getattr(model.config, "eos_token_id", None)
    model.generation_config = GenerationConfig(bos_token_id=shipped.bos_token_id, eos_token_id=end)


def generate_tokens(
    model: PreTrainedModel, inputs: dict[str, Any], seeds: Sequence[int], sampling: Sampling, pad_token: int
) -> torch.Tensor:
    """New tokens [B, T] after left-padded `inputs` (`input_ids` [B, S] and whatever else the model takes).

    Raises PrefmillError where the model produced NaN: the tokens would be noise.
    """
    watch = NanWatch()
    processors = LogitsProcessorList([watch])
    if sampling.temperature > 0.0:
        processors.append(GumbelSampling(sampling, seeds))
    with torch.inference_mode():
        tokens = model.generate(  # type: ignore[operator]  # only generating models come here
            **inputs,
            generation_config=GenerationConfig(
                max_new_tokens=sampling.max_new_tokens, do_sample=False, pad_token_id=pad_token
            ),
            logits_processor=processors,
        )
    if watch.seen is not None and bool(watch.seen):
        raise PrefmillError(
            f"{type(model).__name__} produced NaN logits in {model.dtype}.", "--set engine.dtype=float32"
        )
    return tokens[:, inputs["input_ids"].shape[1] :]


def fit_to_context(model: PreTrainedModel, inputs: dict[str, torch.Tensor], sampling: Sampling) -> Sampling:
    """`sampling` with no more new tokens than the model's context has room for after `input_ids` [B, S].

    Raises PrefmillError where the prompts alone fill it.
    """
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    length = inputs["input_ids"].shape[1]
    if context is None or length + sampling.max_new_tokens <= context:
        return sampling
    if length >= context:
        raise PrefmillError(
            f"a prompt has {length} tokens, the context of {type(model).__name__} is {context}.", "shorten the prompt"
        )
    return sampling.model_copy(update={"max_new_tokens": context - length})


def decode_answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: torch.Tensor) -> list[Answer]:
    """New tokens [B, T] to stripped texts, each cut at its first stop token."""
    assert model.generation_config is not None
    end = model.generation_config.eos_token_id
    stops = set(end) if isinstance(end, list) else {end}
    answers = []
    for row in tokens.tolist():
        length = next((position for position, token in enumerate(row) if token in stops), len(row))
        text = str(tokenizer.decode(row[:length], skip_special_tokens=True))
        answers.append(Answer(text.strip(), "stop" if length < len(row) else "length", length))
    return answers
