"""Per-token log-probabilities of a language-model head, without its logits in memory."""

from dataclasses import replace

from .autograd import check_targets
from .head import IGNORED
from .parallel import parallel_token_logprobs, parallel_token_statistics
from .tokens import OP as _SINGLE
from .tokens import TokenStatistics, token_logprobs, token_logprobs_reference, token_statistics

# `parallel` stands above `tokens`, so its functions join the operation here.
OP = replace(_SINGLE, variants=(*_SINGLE.variants, parallel_token_logprobs, parallel_token_statistics))
OPS = (OP,)

__all__ = [
    "IGNORED",
    "OP",
    "OPS",
    "TokenStatistics",
    "check_targets",
    "parallel_token_logprobs",
    "parallel_token_statistics",
    "token_logprobs",
    "token_logprobs_reference",
    "token_statistics",
]
