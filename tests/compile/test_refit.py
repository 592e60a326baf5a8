"""Engines of a small network, and of SD3's step, with other weights put into them."""

# pyright: reportPrivateImportUsage=false

import copy
import functools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel
from prefmill.base.errors import PrefmillError
from prefmill.compile.build import build_engine
from prefmill.compile.refit import refit_engine
from prefmill.engine.artifact import find_artifact, identity_of
from prefmill.engine.backends.catalogue import load_engine
from prefmill.engine.network import Dimension, Input, Network
from prefmill.engine.responders.adapter import merge_adapter
from prefmill.engine.runner import EagerRunner
from prefmill.engine.sd3.step import step_network
from prefmill.engine.tiny.catalogue import build_named
from torch import nn

CPU = torch.device("cpu")


class Layers(nn.Module):
    """Several linear layers, and what compilers like to fold: zeros, ones, a scalar, a table that no state holds."""

    table: torch.Tensor

    def __init__(self):
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(2, 2)
        self.norm = nn.LayerNorm(16)
        self.scale = nn.Parameter(torch.ones(()))
        nn.init.zeros_(self.second.bias)
        self.register_buffer("table", torch.arange(8.0), persistent=False)


def run_layers(module, values, weights):
    hidden = module.norm(module.first(values)).relu()
    odd = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.5])
    return module.second(hidden) * module.scale + module.table * weights[:, None] + odd


def layers(change: float = 0.0) -> Network:
    """The base, and with a change the base plus a low-rank difference in every weight that a compiler could fold."""
    torch.manual_seed(0)
    module = Layers().eval()
    with torch.no_grad():
        module.first.weight += change * torch.randn(16, 2) @ torch.randn(2, 8)
        for parameter in (module.second.bias, module.norm.weight, module.scale):
            parameter.add_(change * torch.randn(parameter.shape))
    batch = Dimension("batch", 1, 4, 16)
    return Network("layers", module, run_layers, {"values": Input((batch, 8)), "weights": Input((batch,))}, ("sums",))


def outputs(network, engine, rows=5):
    runner = load_engine(network, engine[0], engine[1], CPU)
    return runner.run(network.sample({**{name: one.optimum for name, one in network.dimensions.items()},
                                      "batch": rows}, torch.float32))  # fmt: skip


def refit(network, engine, root):
    return refit_engine(network, engine[0], engine[1], CPU, root)


def same(found, wanted):
    return all(torch.equal(found[name], value) for name, value in wanted.items())


@pytest.fixture(scope="module")
def engine_of(tmp_path_factory):
    """An engine of the base, built once for a backend."""

    @functools.cache
    def build(backend):
        root, network = tmp_path_factory.mktemp(backend), layers()
        engine = build_engine(network, backend, "float32", CPU, root / "engines")
        return SimpleNamespace(backend=backend, root=root, network=network, engine=engine)

    return build


@pytest.fixture(params=["onnxruntime", "openvino", "aoti"])
def first(request, engine_of):
    """That of each backend."""
    return engine_of(request.param)


def test_a_refit_is_what_a_build_is_and_back_again(first):
    """A -> B -> A: B equals B built anew, and A equals A, bit for bit; nothing was built for either."""
    changed = layers(0.1)
    before = outputs(first.network, first.engine)
    second = refit(changed, first.engine, first.root / "engines")
    assert second[1].notes["refit"] == f"weights of {first.engine[0].name} replaced"
    assert second[1].state == "verified"
    assert second[1].key != first.engine[1].key
    assert find_artifact(first.root / "engines", identity_of(changed, first.backend, "float32"), CPU) == second
    anew = build_engine(changed, first.backend, "float32", CPU, first.root / "anew")
    assert same(outputs(changed, second), outputs(changed, anew))
    assert not same(outputs(changed, second), before)
    third = refit(first.network, second, first.root / "back")
    assert third[0] != first.engine[0]
    assert same(outputs(first.network, third), before)
    assert third[1].key == first.engine[1].key
    assert refit(first.network, first.engine, first.root / "engines") == first.engine
    assert same(outputs(first.network, first.engine), before), "the first engine stays as it was"


def test_what_the_runners_do(first):
    """Values of the eager network at sizes below and above the range, inputs that lie otherwise, outputs that stay."""
    network, runner = first.network, load_engine(first.network, first.engine[0], first.engine[1], CPU)
    assert (runner.execution.backend, runner.execution.precision) == (first.backend, "float32")
    eager = EagerRunner(network)
    for rows in (1, 3, 16, 35):
        inputs = network.sample({"batch": rows}, torch.float32, seed=rows)
        with torch.inference_mode():
            torch.testing.assert_close(runner.run(inputs)["sums"], eager.run(inputs)["sums"], rtol=1e-5, atol=1e-5)
    strided = {"values": torch.randn(8, 6).T, "weights": torch.tensor([2.0]).expand(6)}
    with torch.inference_mode():
        wanted = eager.run(strided)["sums"]
    kept = runner.run(strided)["sums"]
    copied = kept.clone()
    runner.run({"values": torch.zeros(6, 8), "weights": torch.zeros(6)})
    assert torch.equal(kept, copied), "the next call writes over it"
    torch.testing.assert_close(kept, wanted, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"values is torch\.float64, the engine takes torch\.float32"):
        runner.run({"values": torch.zeros(6, 8).double(), "weights": torch.zeros(6)})


def test_an_engine_of_another_graph_is_refused(first):
    other = Network("layers", first.network.module, run_layers, first.network.inputs, ("others",))
    with pytest.raises(PrefmillError, match="of another specification than layers") as caught:
        refit(other, first.engine, first.root)
    assert "prefmill compile build" in caught.value.fix


def test_what_has_weights_folded_in_is_built_anew_and_says_so(engine_of, tmp_path):
    """A weight that the graph's constants were computed from cannot be told from them."""
    folder, artifact = engine_of("openvino").engine
    folded = artifact.model_copy(update={"notes": {"swallowed": ["module.first.weight"]}})
    found = refit_engine(layers(0.2), folder, folded, CPU, tmp_path)
    assert found[1].notes["refit"] == "built anew: 1 weights are folded into it, module.first.weight for one"
    assert found[1].state == "verified"


def test_weights_that_were_one_and_are_two_now_are_built_anew(tmp_path):
    """The exporter gives tied weights one name: what was written under it is wrong for the other."""
    network = layers()
    module = nn.ModuleDict({"left": nn.Linear(8, 8), "right": nn.Linear(8, 8)}).eval()
    module["left"].weight = module["right"].weight
    tied = Network("tied", module, _both, {"values": network.inputs["values"]}, ("sums",))
    engine = build_engine(tied, "onnxruntime", "float32", CPU, tmp_path)
    apart = copy.deepcopy(module)
    left = apart["left"]
    assert isinstance(left, nn.Linear)
    left.weight = nn.Parameter(left.weight.detach() + 1.0)
    refitted = refit(Network("tied", apart, _both, tied.inputs, ("sums",)), engine, tmp_path)
    assert refitted[1].notes["refit"].startswith("built anew: the engine tied-")
    assert refitted[1].state == "verified"


def _both(module: nn.ModuleDict, values):
    return module["left"].forward(module["right"].forward(values))


def test_a_refit_of_the_guided_step_with_a_lora(lora_of, tmp_path):
    """Stable Diffusion 3's step, its adapter merged in as the product does it."""
    config: Any = SD3Transformer2DModel.load_config(build_named("text-to-image") / "transformer")
    torch.manual_seed(0)
    fresh: Any = SD3Transformer2DModel.from_config({**config, "num_layers": 1})
    fresh.save_pretrained(tmp_path / "base")
    base, tuned = (SD3Transformer2DModel.from_pretrained(tmp_path / "base").eval() for _ in range(2))
    ranges = {"batch": (1, 2, 4), "height": (8, 8, 8), "width": (8, 8, 8)}
    plain = step_network(base, 4, guided=True)
    engine = build_engine(plain, "onnxruntime", "float32", CPU, tmp_path / "engines", ranges=ranges)
    assert engine[1].notes["swallowed"] == []
    merged = step_network(merge_adapter(tuned, lora_of(tmp_path / "base", tmp_path / "lora")), 4, guided=True)
    second = refit(merged, engine, tmp_path / "engines")
    assert second[1].notes["refit"] == f"weights of {engine[0].name} replaced"
    assert max(row.maximum_relative_error for row in second[1].parity) < 1e-5
    third = refit(plain, second, tmp_path / "back")
    assert third[1].files == engine[1].files, "the same bytes"
