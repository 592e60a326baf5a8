"""A toy network, and a backend that is quick to build: its engine is the module's weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from prefmill.compile.builders import catalogue as builders
from prefmill.compile.builders.builder import Builder, BuildRequest
from prefmill.engine.backends import catalogue as backends
from prefmill.engine.backends.engine_runner import EngineRunner
from prefmill.engine.network import Dimension, Input, Network

ROWS = Dimension("rows", 1, 2, 4)
WIDE = Dimension("wide", 2, 4, 8, 2)


def _forward(module, pixels, shift):
    return module(pixels) + shift.sum()


def toy(seed: int = 0, name: str = "toy") -> Network:
    """A linear layer over a batch, and an input that has no batch."""
    torch.manual_seed(seed)
    inputs = {"pixels": Input((ROWS, WIDE, 3)), "shift": Input((1, WIDE))}
    return Network(name, torch.nn.Linear(3, 2), _forward, inputs, ("sums",))


class StoredWeights(EngineRunner):
    """Runs the weights that the engine holds, and remembers the rows of every call."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.module = torch.nn.Linear(3, 2)
        self.module.load_state_dict(torch.load(self.folder / "weights.pt", weights_only=True))
        self.rows: list[int] = []

    def _execute(self, inputs):
        self.rows.append(len(inputs["pixels"]))
        return {"sums": _forward(self.module, **inputs)}


class Workshop:
    """What the builder of the toy backend does, and how often it was asked."""

    def __init__(self) -> None:
        self.builds = 0
        self.instead: Callable[[Path], None] | None = None
        self.change = 0.0

    def write(self, request: BuildRequest) -> dict[str, Any]:
        self.builds += 1
        path = request.folder / "weights.pt"
        if self.instead:
            path.write_bytes(b"half")
            self.instead(path)
        state = request.network.module.state_dict()
        torch.save({key: value + self.change for key, value in state.items()}, path)
        return {"builds": self.builds}


@pytest.fixture
def workshop(monkeypatch) -> Workshop:
    """The toy backend in the place of ONNX Runtime's, whose packages it does not need."""
    made = Workshop()
    builder = Builder(made.write, ("float32",))
    monkeypatch.setattr("prefmill.compile.build.builder_of", lambda name: builder)
    for place in ("build", "export"):
        monkeypatch.setattr(f"prefmill.compile.{place}.export_program", lambda network, ranges: None)
    monkeypatch.setattr(builders, "builder_of", lambda name: builder)
    module = type("Module", (), {"StoredWeights": StoredWeights})
    real = backends.import_module
    monkeypatch.setattr(backends, "import_module", lambda name, *rest: module if name == ".toy" else real(name, *rest))
    monkeypatch.setitem(backends.ENGINES, "onnxruntime", ("toy", "StoredWeights", "torch"))
    return made
