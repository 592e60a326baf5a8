"""A vocabulary split over two processes gives what one process gives."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from prefmill.kernels.logprob.parallel import parallel_token_logprobs, parallel_token_statistics
from prefmill.kernels.logprob.tokens import OP, token_logprobs, token_statistics
from prefmill.kernels.operation import Case
from torch import multiprocessing

SPLIT = (0, 260, 1003)  # unequal shards
OPTIONS: tuple[dict[str, Any], ...] = ({}, {"temperature": 0.7, "softcap": 6.0})


def inputs():
    got = OP.make(Case("parallel", {"N": 40, "D": 24, "V": 1003}), torch.device("cpu"))
    got["targets_N"][[4, 9]] = -100
    got["bias"] = torch.randn(1003, generator=torch.Generator().manual_seed(5))
    # ties across the processes: the target's column appears again in the other shard
    got["weight_VD"][900], got["bias"][900] = got["weight_VD"][100], got["bias"][100]
    got["hidden_ND"][:2] = 4 * got["weight_VD"][100]
    got["targets_N"][0], got["targets_N"][1] = 100, 900
    return got


def process(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    got = inputs()
    part = slice(SPLIT[rank], SPLIT[rank + 1])
    shard = (got["weight_VD"][part], got["targets_N"], got["bias"][part])
    results = []
    for options in OPTIONS:
        hidden = got["hidden_ND"].clone().requires_grad_()
        logp = parallel_token_logprobs(hidden, *shard, **options, first_column=SPLIT[rank])
        logp.backward(torch.linspace(-1, 2, 40))
        statistics = parallel_token_statistics(got["hidden_ND"], *shard, **options, first_column=SPLIT[rank])
        results.append((logp.detach(), hidden.grad, *statistics))
    try:
        outside = torch.full((40,), 1003)
        parallel_token_logprobs(got["hidden_ND"], shard[0], outside, first_column=SPLIT[rank])
    except ValueError as error:
        results.append(str(error))
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    multiprocessing.spawn(process, (str(tmp_path),), nprocs=2)  # type: ignore[reportPrivateImportUsage]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for place, options in enumerate(OPTIONS):
        got = inputs()
        hidden = got["hidden_ND"].clone().requires_grad_()
        logp = token_logprobs(hidden, got["weight_VD"], got["targets_N"], got["bias"], **options)
        logp.backward(torch.linspace(-1, 2, 40))
        whole = token_statistics(got["hidden_ND"], got["weight_VD"], got["targets_N"], got["bias"], **options)
        assert hidden.grad is not None
        for ours, theirs, expected in zip(
            first[place], second[place], (logp.detach(), hidden.grad, *whole), strict=True
        ):
            assert torch.equal(ours, theirs), "the processes disagree"
            if expected.dtype == torch.bool:
                assert torch.equal(ours, expected)
                assert 0.1 < expected.float().mean() < 0.9
            else:
                torch.testing.assert_close(ours, expected, atol=5e-6, rtol=2e-5)
        assert bool((first[place][0] <= 0).all())
        assert whole.hit[:2].tolist() == [True, False], "the first of two equal logits is the hit"
    assert "lies in no process's columns" in first[-1]
    assert first[-1] == second[-1]


def test_a_trained_shard_is_refused():
    got = inputs()
    with pytest.raises(ValueError, match=r"weight_shard\.requires_grad_\(False\)"):
        parallel_token_logprobs(got["hidden_ND"], got["weight_VD"].requires_grad_(), got["targets_N"], first_column=0)
