"""Every operation of this folder. Tests, budgets and benchmarks go through this tuple."""

from .guided_step.step import OP as GUIDED_STEP
from .logprob.tokens import OP as LOGPROB
from .operation import Op
from .pixels.prepare import OP as PIXELS
from .preference.losses import OP as PREFERENCE
from .reward_head.heads import OP as REWARD_HEAD

OPS: tuple[Op, ...] = (LOGPROB, PREFERENCE, REWARD_HEAD, GUIDED_STEP, PIXELS)
