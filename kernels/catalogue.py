"""Every operation of this folder. Tests, budgets and benchmarks go through this tuple."""

from .groups import OP as GROUPS
from .guided_step import OP as GUIDED_STEP
from .logprob import OP as LOGPROB
from .operation import Op
from .pixels import OP as PIXELS
from .preference import OP as PREFERENCE
from .reward_head import OP as REWARD_HEAD

OPS: tuple[Op, ...] = (LOGPROB, PREFERENCE, REWARD_HEAD, GROUPS, GUIDED_STEP, PIXELS)
