"""The Triton kernel of log-probabilities, in Triton's interpreter: every branch, every type, odd sizes.

Runs in a process of its own, started by `test_interpreter.py`, with TRITON_INTERPRET=1. The interpreter truncates
where a GPU rounds to bfloat16, so gradients in bfloat16 are allowed one unit in the last place instead of a half.
"""

import itertools

import pytest
import torch
from prefmill.kernels.logprob.head import Head
from prefmill.kernels.logprob.rows import chunk_rows, logits_buffer, row_statistics
from prefmill.kernels.logprob.tiles import tile_statistics
from prefmill.kernels.logprob.tokens import OP, token_logprobs, token_logprobs_reference, token_statistics
from prefmill.kernels.operation import Case
from prefmill.kernels.triton_support import INTERPRETED

assert INTERPRETED
TYPES = [torch.float32, torch.float16, torch.bfloat16]


def make(dtype, rows=4, vocabulary=5003):
    sizes = {"N": rows, "D": 24, "V": vocabulary}
    return OP.make(Case("interpreted", sizes, dtype), torch.device("cpu"))


@pytest.mark.parametrize("softcap", [None, 9.0])
@pytest.mark.parametrize(
    ("vocabulary", "dtype"), [*itertools.product((40, 5003), TYPES), (70_001, torch.bfloat16)], ids=str
)
@pytest.mark.parametrize(("extras", "residual"), [(False, False), (False, True), (True, True)])
def test_equals_the_cpu_path(dtype, softcap, vocabulary, extras, residual):
    """70,001 columns take the large-vocabulary shape of the launch, whatever the type; row 1 has no target here."""
    inputs = make(dtype, vocabulary=vocabulary)
    head = Head(inputs["weight_VD"], None, 0.8, softcap)
    targets = inputs["targets_N"].clone()
    targets[1] = -1
    targets[0], targets[3] = 0, vocabulary - 1
    flags = {"residual": residual, "extras": extras}
    ours = row_statistics(inputs["hidden_ND"], head, targets, **flags)
    expected = tile_statistics(inputs["hidden_ND"], head, targets, **flags)
    for name in ("logp", "total", "peak", "entropy"):
        torch.testing.assert_close(getattr(ours, name), getattr(expected, name), atol=2e-5, rtol=2e-6)
    assert extras == (ours.hit is not None)
    if ours.hit is not None and expected.hit is not None:
        assert torch.equal(ours.hit, expected.hit)
    if not residual:
        assert ours.residual is None
        return
    assert ours.residual is not None
    assert expected.residual is not None
    unit = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 2**-7}[dtype]
    error = (ours.residual - expected.residual).abs()
    assert bool((error <= unit * (expected.residual.abs() + expected.residual.norm(dim=1, keepdim=True) / 3)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("softcap", [None, 9.0])
def test_trained_head_with_bias(dtype, softcap):
    """The scaled rows and the bias, through the public function, against autograd."""
    inputs = make(dtype, rows=9, vocabulary=700)
    inputs["bias"] = torch.randn(700, generator=torch.Generator().manual_seed(2)).to(dtype)
    names = ("hidden_ND", "weight_VD", "bias")
    found = []
    for function in (token_logprobs, token_logprobs_reference):
        copies = {name: value.clone() for name, value in inputs.items()}
        leaves = [copies[name].requires_grad_() for name in names]
        logp = function(**copies, temperature=1.3, softcap=softcap)
        found.append([logp.detach(), *torch.autograd.grad((logp * torch.linspace(-1, 2, 9)).sum(), leaves)])
    unit = {torch.float32: 3e-6, torch.float16: 2e-3}[dtype]
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, atol=unit * max(1.0, float(expected.abs().max())), rtol=unit)


@pytest.mark.parametrize(("trained", "vocabulary"), [(False, 701), (True, 701), (False, 70_001)])
def test_ignored_rows_give_zero_whatever_they_hold(trained, vocabulary):
    """In place, for to gather them would mean to wait for the device; equal to the rows without them."""
    inputs = make(torch.float32, rows=7, vocabulary=vocabulary)
    kept = torch.tensor([True, False, True, True, False, False, True])
    targets = inputs["targets_N"].where(kept, -100)
    found = []
    for rows in (slice(None), kept):
        hidden, weight = inputs["hidden_ND"].clone(), inputs["weight_VD"].clone().requires_grad_(trained)
        hidden[~kept] = torch.nan
        hidden = hidden[rows].requires_grad_()
        got = token_statistics(hidden, weight, targets[rows])
        (got.logp.sum() + 0 * weight.sum()).backward()
        found.append((*got, hidden.grad, weight.grad))
    (*ours, to_weight), (*expected, expected_to_weight) = found
    for mine, theirs in zip(ours, expected, strict=True):
        assert not mine[~kept].any()
        assert torch.equal(mine[kept], theirs)
    if trained:
        torch.testing.assert_close(to_weight, expected_to_weight)


def test_a_target_that_is_no_column_is_seen_in_the_loss():
    """On a GPU nobody looks at targets: one from another vocabulary reads no memory beyond the row."""
    inputs = make(torch.float32, vocabulary=701)
    head = Head(inputs["weight_VD"], None, 1.0, None)
    targets = torch.tensor([3, 701, 1 << 40, -7])
    got = row_statistics(inputs["hidden_ND"], head, targets, residual=True, extras=True)
    assert got.logp.isneginf().tolist() == [False, True, True, True]


def test_rows_begin_on_whole_vectors():
    for dtype, vocabulary in itertools.product(TYPES, (1, 40, 701, 50_257)):
        logits = logits_buffer(torch.empty(1, 8, dtype=dtype), 3, vocabulary)
        assert logits.shape == (3, vocabulary)
        assert logits.stride(0) * dtype.itemsize % 32 == 0
        assert logits.untyped_storage().nbytes() == 3 * logits.stride(0) * dtype.itemsize


def test_ties_and_broken_rows():
    hidden = torch.ones(5, 1)
    hidden[4] = torch.nan
    weight = torch.zeros(9000, 1)
    weight[[3, 5000, 8999]] = 5.0
    got = token_statistics(hidden, weight, torch.tensor([3, 5000, 8999, 4, 3]))
    assert got.hit.tolist()[:4] == [True, False, False, False]
    assert bool(got.logp[4].isnan())
    bias = torch.zeros(9000)
    bias[:8192] = -torch.inf  # whole blocks forbidden
    got = token_statistics(hidden[:1], weight, torch.tensor([8999]), bias)
    expected = token_logprobs_reference(hidden[:1], weight, torch.tensor([8999]), bias)
    torch.testing.assert_close(got.logp, expected)
    assert bool(got.entropy.isfinite().all())


def test_repeats_bit_for_bit():
    inputs = make(torch.float32)
    head = Head(inputs["weight_VD"], None, 1.0, None)
    once, twice = (
        row_statistics(inputs["hidden_ND"], head, inputs["targets_N"], residual=True, extras=True) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True) if a is not None and b is not None)


def test_float64_is_refused():
    inputs = make(torch.float64)
    with pytest.raises(ValueError, match="cast it"):
        token_logprobs(**inputs)


def test_chunks_fit_their_memory():
    """At most 512 MiB of logits, and chunks of equal size."""
    assert chunk_rows(4096, 128_256, 2) * 128_256 * 2 <= 512 << 20
    assert chunk_rows(4096, 128_256, 2) == 2048
    assert chunk_rows(16_384, 32_000, 2) == 4096
    assert chunk_rows(0, 32_000, 2) == 1
    assert chunk_rows(1, 10, 4) == 1
