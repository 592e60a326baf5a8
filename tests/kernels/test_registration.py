"""The operations of training stay whole in a compiled graph: same values, same gradients, registered as torch wants."""

import pytest
import torch
from prefmill.kernels.logprob import OP as LOGPROB
from prefmill.kernels.logprob import token_logprobs, token_statistics
from prefmill.kernels.logprob.autograd import head_gradients, token_pass
from prefmill.kernels.logprob.head import narrowed
from prefmill.kernels.operation import Case
from prefmill.kernels.preference import OP as PREFERENCE
from prefmill.kernels.preference import preference_loss
from prefmill.kernels.preference.formulas import LOSSES
from prefmill.kernels.preference.losses import _preference, options_of
from torch.utils.flop_counter import FlopCounterMode

CPU = torch.device("cpu")
LENGTHS = torch.tensor([4, 7, 3, 6])
SEGMENTS = torch.repeat_interleave(LENGTHS)
REFERENCE = -3.0 * LENGTHS


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def rows(dtype=torch.float32):
    return LOGPROB.make(Case("compiled", {"N": 20, "D": 16, "V": 300}, dtype), CPU)


def objective(hidden, weight, bias, targets):
    """A loss of both operations with plain ones before, between and after."""
    got = token_statistics(1.5 * hidden, weight, targets, bias, 0.9, 8.0)
    loss = preference_loss(2 * got.logp, SEGMENTS, 2, reference_S=REFERENCE, loss="nca_pair")
    return loss.loss.mean() + loss.margin.mean(), got.entropy, got.hit


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_one_graph_with_the_same_numbers(backend, trained, dtype):
    given = rows(dtype)
    found = []
    for function in (objective, torch.compile(objective, fullgraph=True, backend=backend)):
        hidden = given["hidden_ND"].clone().requires_grad_()
        weight = given["weight_VD"].clone().requires_grad_(trained)
        bias = torch.linspace(-1, 1, 300).to(dtype).requires_grad_(trained)
        loss, *others = function(hidden, weight, bias, given["targets_N"])
        loss.backward()
        found.append([loss.detach(), *others, *(leaf.grad for leaf in (hidden, weight, bias) if leaf.requires_grad)])
    for eager, compiled in zip(*found, strict=True):
        assert torch.equal(eager, compiled)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_without_gradients_and_with_autocast(backend):
    given = rows()

    def score(hidden, weight, targets):
        return token_logprobs(hidden, weight, targets), narrowed(weight, torch.bfloat16)

    compiled = torch.compile(score, fullgraph=True, backend=backend)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for ours, expected in zip(compiled(*given.values()), score(*given.values()), strict=True):
            assert torch.equal(ours, expected)


@pytest.mark.parametrize("extras", [False, True])
@pytest.mark.parametrize("learned", ["nothing", "hidden", "everything"])
def test_token_statistics_are_registered_right(learned, extras):
    """Schema, fake implementation and gradients against what the operation really does."""
    given = rows()
    hidden, weight, targets = given["hidden_ND"], given["weight_VD"], given["targets_N"]
    bias = torch.zeros(300) if learned == "everything" else None
    if learned != "nothing":
        hidden.requires_grad_()
    if bias is not None:
        weight.requires_grad_()
        bias.requires_grad_()
    torch.library.opcheck(token_pass, (hidden, weight, bias, targets, 0.7, 5.0, learned != "nothing", extras))


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)], ids=str)
def test_head_gradients_are_registered_right(wanted):
    given = rows(torch.bfloat16)
    bias = torch.zeros(300, dtype=torch.bfloat16)
    arguments = (*given.values(), torch.linspace(-1, 1, 20))
    hidden, weight, targets, gradient = arguments
    torch.library.opcheck(head_gradients, (hidden, weight, bias, targets, gradient, 0.7, None, *wanted))


@pytest.mark.parametrize("loss", LOSSES)
def test_preference_loss_is_registered_right(loss):
    given = PREFERENCE.make(Case("compiled", {"pairs": 2}, options={"image_weight": 0.5}), CPU)
    logps = given["logps_N"].requires_grad_()
    smoothing = options_of(loss).get("label_smoothing", 0.0)
    numbers = (0.1, smoothing, 0.5, 0.2, 0.0)
    torch.library.opcheck(_preference, (logps, given["segments_N"], given["reference_N"], 2, False, loss, *numbers))


def test_second_derivatives_are_refused_and_not_wrong():
    given = rows()
    hidden = given["hidden_ND"].requires_grad_()
    logp = token_logprobs(hidden, given["weight_VD"], given["targets_N"])
    (first,) = torch.autograd.grad(logp.square().sum(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
def test_torch_counts_their_operations(trained):
    """4 N D V with a frozen head, 8 with a trained one."""
    given = rows()
    given["hidden_ND"].requires_grad_()
    given["weight_VD"].requires_grad_(trained)
    with FlopCounterMode(display=False) as counter:
        token_logprobs(**given).sum().backward()
    assert counter.get_total_flops() == (8 if trained else 4) * 20 * 16 * 300
