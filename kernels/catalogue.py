"""Every operation of this folder. Tests, budgets and benchmarks go through this tuple."""

from . import guided_step, logprob, pixels, preference, reward_head
from .operation import Op

OPS: tuple[Op, ...] = (*logprob.OPS, *preference.OPS, *reward_head.OPS, *guided_step.OPS, *pixels.OPS)
