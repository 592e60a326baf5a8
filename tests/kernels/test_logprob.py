"""Token log-probabilities: exact, repeatable, small in memory, and right at the edges."""

import gc
import itertools
import weakref

import pytest
import torch
from prefmill.kernels.logprob import tiles
from prefmill.kernels.logprob.head import narrowed
from prefmill.kernels.logprob.tokens import OP, token_logprobs, token_logprobs_reference, token_statistics
from prefmill.kernels.operation import Case
from prefmill.kernels.registration import BODIES
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

from .truth import squared_errors

CPU = torch.device("cpu")
SIZES = ({"N": 64, "D": 64, "V": 5000}, {"N": 130, "D": 256, "V": 3001}, {"N": 100, "D": 128, "V": 9000})


def make(dtype=torch.float32, bias=False, **sizes):
    inputs = OP.make(Case("test", sizes, dtype), CPU)
    if bias:
        inputs["bias"] = torch.randn(sizes["V"], generator=torch.Generator().manual_seed(1)).to(dtype)
    return inputs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("learned", [("hidden_ND",), ("hidden_ND", "weight_VD"), ("weight_VD", "bias")])
def test_error_is_at_most_the_references(dtype, learned):
    """Summed over sizes, bias, temperature and softcap: one case alone would compare two draws of rounding noise."""
    pooled = torch.zeros(1 + len(learned), 2, dtype=torch.float64)
    for size, temperature, softcap in itertools.product(SIZES, (1.0, 0.7), (None, 20.0)):
        for bias in (True,) if "bias" in learned else (False, True):
            inputs = make(dtype, bias, **size) | {"temperature": temperature, "softcap": softcap}
            pooled += torch.tensor(squared_errors(token_logprobs, token_logprobs_reference, inputs, learned))
    for name, (ours, reference) in zip(("logp", *learned), pooled.tolist(), strict=True):
        # for a trained head the arithmetic is the reference's own, so the two may only tie: to a hundredth
        most = reference * (1.01 if name in ("weight_VD", "bias") else 1)
        assert ours <= most, f"{name}: squared error {ours:.3g}, the reference's is {reference:.3g}"


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
def test_gradient_in_float64(trained):
    """Against finite differences, with every option on."""
    inputs = make(torch.float64, bias=True, N=5, D=4, V=11)
    leaves = [inputs["hidden_ND"].requires_grad_()]
    leaves += [inputs["weight_VD"].requires_grad_(), inputs["bias"].requires_grad_()] if trained else []
    targets = inputs["targets_N"].clone()
    targets[2] = -100

    def function(hidden, weight=inputs["weight_VD"], bias=inputs["bias"]):
        return token_logprobs(hidden, weight, targets, bias, 0.7, 3.0)

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("temperature", [1.0, 1.7])
@pytest.mark.parametrize("softcap", [None, 15.0])
def test_equals_trl(temperature, softcap):
    inputs = make(N=70, D=48, V=2500)
    gradient = torch.linspace(-2, 1, 70)
    hidden, weight, targets = inputs["hidden_ND"], inputs["weight_VD"], inputs["targets_N"]
    mine, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    ours = token_statistics(mine, weight, targets, None, temperature, softcap)
    ours.logp.backward(gradient)
    options = (temperature, 512, softcap, 1.0, ("entropy", "is_top1"))
    logp, entropy, _, _, hit = ChunkedLogProbFunction.apply(theirs, weight, None, targets, *options)  # type: ignore
    logp.backward(gradient)
    torch.testing.assert_close(ours.logp, logp, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(ours.entropy, entropy, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(mine.grad, theirs.grad, atol=2e-6, rtol=1e-5)
    assert torch.equal(ours.hit, hit)
    assert 0.2 < ours.hit.float().mean() < 0.9, "the case should have both hits and misses"


def test_ignored_rows_cost_nothing_and_give_zero(monkeypatch):
    inputs = make(N=90, D=32, V=700)
    hidden = inputs["hidden_ND"].clone().requires_grad_()
    targets = inputs["targets_N"].clone()
    targets[::3] = -100
    hidden.data[::3] = torch.nan  # a padded row may hold anything
    seen = []
    original = tiles._chunk
    monkeypatch.setattr(tiles, "_chunk", lambda rows, *a: (seen.append(len(rows)), original(rows, *a))[1])
    got = token_statistics(hidden, inputs["weight_VD"], targets)
    got.logp.sum().backward()
    assert seen == [60]
    assert hidden.grad is not None
    for values in (got.logp, got.entropy, got.hit, hidden.grad):
        assert bool((values[::3] == 0).all())
    kept = targets != -100
    expected = token_logprobs_reference(inputs["hidden_ND"][kept], inputs["weight_VD"], targets[kept])
    torch.testing.assert_close(got.logp[kept], expected, atol=2e-5, rtol=1e-5)


def test_no_target_at_all_still_has_a_gradient():
    hidden = torch.randn(4, 8, requires_grad=True)
    logp = token_logprobs(hidden, torch.randn(20, 8), torch.full((4,), -100))
    logp.sum().backward()
    assert torch.equal(logp, torch.zeros(4))
    assert hidden.grad is not None
    assert not hidden.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_never_positive_and_exact_where_the_target_is_certain(dtype):
    """p_y within rounding of 1: log-probabilities at most 0, and a gradient that is not rounding noise."""
    draw = torch.Generator().manual_seed(3)
    weight = torch.randn(4000, 64, generator=draw).to(dtype)
    targets = torch.randint(4000, (200,), generator=draw)
    hidden = (weight[targets] * torch.linspace(0.15, 1.5, 200)[:, None]).to(dtype).requires_grad_()
    logp = token_logprobs(hidden, weight, targets)
    assert bool((logp <= 0).all())
    assert bool((logp > -1e-6).any())
    (gradient,) = torch.autograd.grad(logp.sum(), hidden)
    exact = hidden.detach().double().requires_grad_()
    truth = torch.autograd.grad(token_logprobs_reference(exact, weight.double(), targets).sum(), exact)[0]
    error = (gradient.double() - truth).norm(dim=1) / truth.norm(dim=1)
    # the logits' own rounding moves 1 - p by eps |z|, with |z| up to 100 here
    assert float(error.median()) < (1e-4 if dtype == torch.float32 else 0.4)
    if dtype == torch.float32:
        plain = hidden.detach().clone().requires_grad_()
        theirs = torch.autograd.grad(token_logprobs_reference(plain, weight, targets).sum(), plain)[0]
        assert float(error.median()) < 0.01 * float(
            ((theirs.double() - truth).norm(dim=1) / truth.norm(dim=1)).median()
        )


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
def test_repeats_bit_for_bit(trained):
    def once():
        inputs = make(torch.bfloat16, N=300, D=128, V=4000)
        leaves = [inputs["hidden_ND"].requires_grad_()] + [inputs["weight_VD"].requires_grad_()] * trained
        logp = token_logprobs(**inputs)
        return [logp.detach(), *torch.autograd.grad((logp * torch.arange(300)).sum(), leaves)]

    assert all(torch.equal(first, second) for first, second in zip(once(), once(), strict=True))


class Largest(TorchDispatchMode):
    """The largest tensor, in elements, that any operation yields."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in BODIES:
            with self:
                return BODIES[func](*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [300, 900])
def test_no_tensor_of_the_logits_size(dtype, rows):
    """Neither the forward nor the backward ever makes a tensor near N x V; the reference, watched alike, does."""
    sizes = {"N": rows, "D": 64, "V": 20_000}
    for function, most in ((token_logprobs, 20_000 * 64), (token_logprobs_reference, None)):
        inputs = make(dtype, **sizes)
        hidden = inputs.pop("hidden_ND").requires_grad_()
        with Largest() as seen:
            function(hidden, **inputs).sum().backward()
        if most is None:
            assert seen.elements == rows * 20_000
            break
        assert seen.elements <= most, "the head's weights are the largest tensor there may be"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forbidden_and_broken_logits(dtype):
    """Columns forbidden by a bias of -inf, whole tiles of them; NaN rows stay NaN, and stay alone."""
    inputs = make(dtype, bias=True, N=6, D=16, V=2000)
    inputs["bias"][:1100] = -torch.inf
    inputs["targets_N"][:] = torch.tensor([1100, 1999, 5, 1500, 1501, 1502])
    inputs["hidden_ND"][4] = torch.nan
    hidden = inputs.pop("hidden_ND").requires_grad_()
    got = token_statistics(hidden, **inputs)
    truth = token_logprobs_reference(hidden, **inputs)
    assert got.logp[2] == -torch.inf
    assert bool(got.logp[4].isnan())
    assert bool(got.entropy[[0, 1, 3, 5]].isfinite().all())
    torch.testing.assert_close(got.logp, truth, atol=2e-5, rtol=1e-5, equal_nan=True)


def test_first_of_equal_logits_is_the_hit():
    """Ties are common in bfloat16; the first column wins, as in argmax, also across tiles."""
    hidden = torch.ones(4, 1)
    weight = torch.zeros(1300, 1)
    weight[[3, 700, 1299]] = 5.0
    hit = token_statistics(hidden, weight, torch.tensor([3, 700, 1299, 4])).hit
    assert hit.tolist() == [True, False, False, False]


def test_autocast_and_mixed_types():
    inputs = make(N=20, D=32, V=600)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = token_logprobs(**inputs)
    narrow = {name: value.bfloat16() if value.is_floating_point() else value for name, value in inputs.items()}
    assert torch.equal(got, token_logprobs(**narrow))
    assert got.dtype == torch.float32


def test_nothing_is_computed_for_gradients_that_nobody_wants(monkeypatch):
    import prefmill.kernels.logprob.autograd as module

    asked = []
    original = module.tile_statistics
    monkeypatch.setattr(module, "tile_statistics", lambda *a, **k: (asked.append(k["residual"]), original(*a, **k))[1])
    inputs = make(N=8, D=8, V=50)
    token_logprobs(**inputs)
    with torch.no_grad():
        token_logprobs(inputs["hidden_ND"].clone().requires_grad_(), inputs["weight_VD"], inputs["targets_N"])
    token_logprobs(inputs["hidden_ND"].clone().requires_grad_(), inputs["weight_VD"], inputs["targets_N"])
    assert asked == [False, False, True]


def test_a_frozen_head_is_cast_once_and_a_changed_one_anew():
    weight = torch.randn(50, 8)
    copy = narrowed(weight, torch.bfloat16)
    assert narrowed(weight, torch.bfloat16) is copy
    assert narrowed(weight, torch.float32) is weight
    changes = {
        "in place": lambda: weight.mul_(2),
        "another storage": lambda: setattr(weight, "data", torch.randn(50, 8)),
        "another type": lambda: narrowed(weight, torch.float16),
        "trained in between": lambda: (
            narrowed(weight.requires_grad_(), torch.bfloat16),
            weight.requires_grad_(False).data.mul_(3),
        ),
    }
    for what, change in changes.items():
        before = narrowed(weight, torch.bfloat16)
        change()
        after = narrowed(weight, torch.bfloat16)
        assert after is not before, what
        assert torch.equal(after, weight.bfloat16()), what
    assert narrowed(weight.requires_grad_(), torch.bfloat16) is weight, "its gradient must not be rounded on the way"


def test_a_cast_dies_with_its_head():
    weight = torch.randn(50, 8)
    kept = weakref.ref(narrowed(weight, torch.bfloat16))
    assert kept() is not None
    del weight
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_ND": torch.zeros(2, 3, 8)}, "flatten"),
        ({"hidden_ND": torch.zeros(4, 7)}, r"\[N, D\] and \[V, D\]"),
        ({"targets_N": torch.zeros(5, dtype=torch.int64)}, r"int64 \[4\]"),
        ({"targets_N": torch.zeros(4, dtype=torch.int32)}, "int64"),
        ({"targets_N": torch.tensor([0, 1, 2, 50])}, "from 0 to 50, the head has 50 columns"),
        ({"targets_N": torch.tensor([0, 1, 2, -1])}, "mark rows without a target with -100"),
        ({"bias": torch.zeros(49)}, r"bias must be \[50\]"),
        ({"temperature": 0.0}, "must be positive"),
        ({"softcap": -1.0}, "must be positive"),
        ({"hidden_ND": torch.zeros(4, 8, dtype=torch.int64)}, "cast it"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    inputs = make(N=4, D=8, V=50) | change
    with pytest.raises(ValueError, match=message):
        token_logprobs(**inputs)
