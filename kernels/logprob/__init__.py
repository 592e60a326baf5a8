"""Per-token log-probabilities of a language-model head, without its logits in memory."""

from .parallel import parallel_token_logprobs, parallel_token_statistics
from .tokens import IGNORED, OP, TokenStatistics, token_logprobs, token_logprobs_reference, token_statistics

__all__ = [
    "IGNORED",
    "OP",
    "TokenStatistics",
    "parallel_token_logprobs",
    "parallel_token_statistics",
    "token_logprobs",
    "token_logprobs_reference",
    "token_statistics",
]
