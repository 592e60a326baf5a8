"""Engines for GPUs that are not here: what TensorRT for RTX builds of a toy and of SD3's step, and what it refuses."""

from importlib.util import find_spec

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.compile.build import build_engine
from prefmill.compile.quantize.calibration import Calibration, Recorder, recording
from prefmill.engine.artifact import MANIFEST, Artifact
from prefmill.engine.backends.tensorrt_library import PLAN_FILE
from prefmill.engine.network import Dimension, Input, Network, whole_numbers
from prefmill.engine.sd3.step import step_network
from prefmill.engine.sd3.text_to_image import TextToImage
from prefmill.engine.settings import EngineSettings

CPU = torch.device("cpu")
TARGETS = ("sm_80", "sm_86", "sm_89")
BATCH = Dimension("batch", 1, 4, 8)
pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")


def toy(dtype):
    module = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4)).to(dtype)
    inputs = {"x": Input((BATCH, 8)), "times": Input((BATCH,), torch.int64, whole_numbers(0, 5))}
    return Network("toy", module.requires_grad_(requires_grad=False), _toy, inputs, ("y",), kept_precise=())


def _toy(module, x, times):
    return module(x) * times[:, None]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_toy_is_built_for_three_gpus_and_not_executed(precision, tmp_path):
    network = toy(getattr(torch, precision))
    folder, artifact = build_engine(network, "tensorrt_rtx", precision, CPU, tmp_path, targets=TARGETS)
    assert (artifact.state, artifact.executed_on, artifact.targets) == ("built", "not executed", TARGETS)
    assert artifact.notes["inputs"] == ["x", "times"]
    assert artifact.notes["layers"] >= 4
    assert sorted(path.name for path in folder.iterdir()) == [PLAN_FILE, MANIFEST]
    assert Artifact.model_validate_json((folder / MANIFEST).read_bytes()) == artifact
    before = (folder / PLAN_FILE).stat().st_mtime_ns
    again, _ = build_engine(network, "tensorrt_rtx", precision, CPU, tmp_path, targets=TARGETS)
    assert (again, (folder / PLAN_FILE).stat().st_mtime_ns) == (folder, before), "what is there is taken"


@pytest.mark.parametrize(("precision", "target"), [("int8", "sm_80"), ("fp8", "sm_89")])
def test_eight_bits_are_built_for_gpus_that_have_them(precision, target, tmp_path):
    network = toy(torch.bfloat16)
    recorder = Recorder()
    with recording(network, recorder):
        network.forward(network.module, **network.sample({"batch": 8}, torch.bfloat16))
    calibration = Calibration(recorder.maxima())
    _, artifact = build_engine(
        network, "tensorrt_rtx", precision, CPU, tmp_path, targets=(target,), calibration=calibration
    )
    assert artifact.identity.calibration == calibration.digest
    assert artifact.identity.precision == precision


def test_the_tiny_step_is_built_at_sizes_that_vary(tmp_path):
    engine = TextToImage.from_pretrained("random:text-to-image", EngineSettings(device="cpu", dtype="bfloat16"))
    network = engine.steps.guided.network
    assert network.specification == step_network(network.module, engine.text.length, guided=True).specification
    _, artifact = build_engine(network, "tensorrt_rtx", "bfloat16", CPU, tmp_path, targets=TARGETS[:1])
    assert set(artifact.ranges) == {"batch", "height", "width"}
    assert artifact.size > 1_000_000


@pytest.mark.parametrize(
    ("targets", "message"),
    [((), "builds for GPUs, and there is none here"), (("sm_90",), "does not build for sm_90")],
)
def test_targets_that_it_has_not(targets, message, tmp_path):
    with pytest.raises(PrefmillError, match=message) as found:
        build_engine(toy(torch.float32), "tensorrt_rtx", "float32", CPU, tmp_path, targets=targets)
    assert "sm_80" in found.value.fix
    assert not [path for path in tmp_path.iterdir() if path.is_dir()], "nothing half made is left"
