"""Token log-probabilities under a head whose vocabulary is split over processes (column-parallel, as in Megatron).

Every process runs the same local pass as a single one (`statistics` in `autograd.py`) over its own columns; what it
yields is then weighed by its share of the softmax's mass, w_r = exp(total_r - total):

    logp = logp_r + log w_r  (r owns the target),   U = sum_r w_r U_r + (1 - w_r) W[y]  (second term: the owner's)

So two collectives do, whatever the number of chunks: a gather of 4 numbers per row, and, where gradients are wanted,
one sum of U [N, D] in the forward. The backward needs none. The head must be frozen.
"""

import math
from typing import Any

import torch
import torch.distributed as dist

from .autograd import statistics
from .head import ELSEWHERE, IGNORED, Head, Statistics
from .tokens import TokenStatistics, check_arguments


def parallel_token_logprobs(
    hidden_ND: torch.Tensor,
    weight_shard: torch.Tensor,
    targets_N: torch.Tensor,
    bias_shard: torch.Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    *,
    first_column: int,
    group: dist.ProcessGroup | None = None,
) -> torch.Tensor:
    """Log-probability [N] of each target, equal on every process; 0 where the target is -100.

    `weight_shard` [V_r, D] holds the columns from `first_column` on; hidden and targets (of the whole vocabulary) are
    equal on every process. Raises ValueError for arguments that do not fit, a head that requires gradients among them.
    """
    return _evaluate(
        hidden_ND, Head(weight_shard, bias_shard, temperature, softcap), targets_N, first_column, group, extras=False
    )[0]


def parallel_token_statistics(
    hidden_ND: torch.Tensor,
    weight_shard: torch.Tensor,
    targets_N: torch.Tensor,
    bias_shard: torch.Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    *,
    first_column: int,
    group: dist.ProcessGroup | None = None,
) -> TokenStatistics:
    """`parallel_token_logprobs` with the entropy and the argmax hit of every row."""
    head = Head(weight_shard, bias_shard, temperature, softcap)
    return TokenStatistics(*_evaluate(hidden_ND, head, targets_N, first_column, group, extras=True))


def _evaluate(
    hidden: torch.Tensor,
    head: Head,
    targets: torch.Tensor,
    first_column: int,
    group: dist.ProcessGroup | None,
    *,
    extras: bool,
) -> tuple[Any, ...]:
    check_arguments(hidden, head, targets)
    if head.weight.requires_grad or (head.bias is not None and head.bias.requires_grad):
        raise ValueError("a vocabulary-parallel head must be frozen: weight_shard.requires_grad_(False)")
    ignored = targets == IGNORED
    local = targets - first_column
    local = local.where((local >= 0) & (local < head.vocabulary), ELSEWHERE).masked_fill(ignored, IGNORED)
    residual = torch.is_grad_enabled() and hidden.requires_grad
    results = _ParallelHead.apply(hidden, head, local, group, residual, extras)
    found = results if isinstance(results, tuple) else (results,)
    return tuple(result.masked_fill(ignored, 0) for result in found)


class _ParallelHead(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Any, head: Any, local: Any, group: Any, residual: Any, extras: Any) -> Any:
        got = statistics(hidden, head, local, residual=residual, extras=extras)
        rank, size = dist.get_rank(group), dist.get_world_size(group)
        mine = torch.stack([got.logp, got.total, got.peak, got.logp if got.entropy is None else got.entropy])
        gathered = [torch.empty_like(mine) for _ in range(size)]
        dist.all_gather(gathered, mine, group=group)
        ctx.type = hidden.dtype
        logps, totals, peaks, entropies = torch.stack(gathered, 1)  # each [processes, N]
        total = totals.logsumexp(0)
        log_shares = totals - total
        # a target that no process owns has log-probability -inf: an error, found on every process alike, on a CPU here
        if hidden.device.type == "cpu" and bool(logps.isneginf().all(0).any()):
            raise ValueError("a target lies in no process's columns; check first_column and the targets")
        logp = (logps + log_shares).amax(0).clamp_(max=0)
        if got.residual is not None:
            ctx.save_for_backward(_whole_residual(got, head, local, log_shares, rank, group))
        if not extras:
            return logp
        empty = log_shares.isneginf()  # a process whose columns are all forbidden
        entropy = (log_shares.exp() * (entropies - log_shares)).masked_fill(empty, 0).sum(0)
        hit = _hits(got, logps + totals, peaks, rank, group)
        ctx.mark_non_differentiable(entropy, hit)
        return logp, entropy, hit

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (residual,) = ctx.saved_tensors
        return torch.mul(residual, gradients[0][:, None], out=torch.empty_like(residual, dtype=ctx.type)), *[None] * 5


def _whole_residual(
    got: Statistics, head: Head, local: torch.Tensor, log_shares: torch.Tensor, rank: int, group: Any
) -> torch.Tensor:
    """U [N, D] of the whole vocabulary from every process's own."""
    assert got.residual is not None
    share = log_shares[rank].exp()
    # the others' shares added up, not 1 - share: exact where this process holds nearly all of the mass
    rest = torch.cat([log_shares[:rank], log_shares[rank + 1 :]]).exp().sum(0) * head.inverse_temperature
    if head.softcap is not None:
        own = (got.logp + got.total) * head.temperature / head.softcap  # tanh of the target's raw logit
        rest = rest * (1 - own.square())
    rest = torch.where(local >= 0, rest, 0.0)
    # whatever an ignored row holds, its share included, its residual is 0
    residual = (got.residual * share[:, None]).masked_fill_((local == IGNORED)[:, None], 0)
    residual += head.weight[local.clamp(min=0)] * rest[:, None]
    dist.all_reduce(residual, group=group)
    return residual


def _hits(got: Statistics, logits: torch.Tensor, peaks: torch.Tensor, rank: int, group: Any) -> torch.Tensor:
    """Whether the target is the first largest logit of all processes: decided by its owner, told to all."""
    assert got.hit is not None
    lowest = torch.full_like(peaks[:1], -math.inf)
    before = torch.cat([lowest, peaks[:rank]]).amax(0)
    after = torch.cat([lowest, peaks[rank + 1 :]]).amax(0)
    own = logits[rank]
    # `own` is logp + log-sum-exp, rounded; where the target is the local peak, the peak is its exact value
    own = torch.where(got.hit, peaks[rank], own)
    hit = (got.hit & (own > before) & (own >= after)).to(torch.uint8)
    dist.all_reduce(hit, op=dist.ReduceOp.MAX, group=group)
    return hit.bool()
