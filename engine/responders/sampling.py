"""Seeded text sampling that does not depend on the batch: every row draws from its own random stream.

`generate(do_sample=True)` draws the whole batch from one global stream, so a row's text changes with its
neighbours, and a rerun after a crash cannot reproduce it. Adding Gumbel noise to the log-probabilities and taking
the largest is an exact draw from them (Gumbel, 1954), and the noise can come from one generator per row.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from ..settings import Sampling

_NO_TOKENS = cast(Any, None)
"""The library's warpers are handed the tokens so far, and these do not look at them."""


class TokenSampling:
    """Chooses tokens: the most likely one, or a draw by temperature and top-p from each row's own stream."""

    def __init__(self, sampling: Sampling) -> None:
        self.warpers = LogitsProcessorList()
        if sampling.temperature > 0.0:
            self.warpers.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_p < 1.0:
                self.warpers.append(TopPLogitsWarper(sampling.top_p))

    def __call__(self, logits: torch.Tensor, streams: Sequence[torch.Generator]) -> torch.Tensor:
        """Logits [B, V] in float32 to tokens [B]; the streams are on the CPU, so that a seed means one noise."""
        if not self.warpers:
            return logits.argmax(-1)
        uniform = torch.stack([torch.rand(logits.shape[-1], generator=stream) for stream in streams])
        tiny = torch.finfo(torch.float32).tiny  # `rand` may return 0, whose Gumbel value would be -inf
        noise = -torch.log(-torch.log(uniform.clamp_min(tiny)))
        return (self.warpers(_NO_TOKENS, logits) + noise.to(logits.device)).argmax(-1)


def keep_stop_tokens_only(model: PreTrainedModel) -> None:
    """Make `sampling` the only source of decoding choices: drop a checkpoint's own temperature, penalties, beams."""
    shipped = model.generation_config
    assert shipped is not None
    end = shipped.eos_token_id if shipped.eos_token_id is not None else getattr(model.config, "eos_token_id", None)
    model.generation_config = GenerationConfig(bos_token_id=shipped.bos_token_id, eos_token_id=end)
