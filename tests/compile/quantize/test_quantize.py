"""Eight bits: what torch rounds, against ONNX's own reference and ONNX Runtime; and an engine from build to load."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from prefmill.base.errors import PrefmillError
from prefmill.compile.build import ParityError, build_engine
from prefmill.compile.export import export_program, write_onnx
from prefmill.compile.quantize.calibration import Calibration, Recorder, calibrate, recording
from prefmill.compile.quantize.linear import EightBitLinear, eight_bit_network
from prefmill.compile.quantize.rounding import round_trip
from prefmill.compile.quantize.samples import SAMPLES, Listener, batch_of
from prefmill.engine.artifact import ranges_of
from prefmill.engine.backends.catalogue import make_runner
from prefmill.engine.network import Dimension, Input, Network
from prefmill.engine.runner import EagerRunner
from prefmill.engine.sd3.text_to_image import TextToImage
from prefmill.engine.settings import EngineSettings

CPU = torch.device("cpu")
BATCH = Dimension("batch", 1, 3, 8)


def _forward(module, x):
    return module(x)


@pytest.fixture(scope="module")
def network():
    """Two layers in eight bits and one that is not; the input has one channel of forty times the size."""
    torch.manual_seed(3)
    first = torch.nn.Linear(16, 32).requires_grad_(requires_grad=False)
    first.weight[:, 5] /= 40
    layers = torch.nn.Sequential(first, torch.nn.GELU(), torch.nn.Linear(32, 24), torch.nn.Linear(24, 4))
    layers.requires_grad_(requires_grad=False)
    sizes = torch.ones(16)
    sizes[5] = 40
    entry = Input((BATCH, 16), draw=lambda shape, generator: (2 * torch.rand(shape, generator=generator) - 1) * sizes)
    return Network("toy", layers, _forward, {"x": entry}, ("y",), kept_precise=("3",))


@pytest.fixture(scope="module")
def calibration(network):
    recorder = Recorder()
    with recording(network, recorder):
        for seed in range(32):
            network.forward(network.module, **network.sample({"batch": 8}, torch.float32, seed=seed))
    return Calibration(recorder.maxima())


def test_rounding_is_onnxs_own():
    values = torch.randn(6, 5) * 3
    scale = torch.linspace(0.01, 0.05, 6)
    got = round_trip(values, scale, torch.zeros(6, dtype=torch.int8))
    steps = np.clip(np.rint(values.numpy() / scale.numpy()[:, None]), -128, 127)
    assert np.array_equal(got.numpy(), (steps * scale.numpy()[:, None]).astype(np.float32))
    small = round_trip(
        torch.tensor([0.0, 1.0, 1.06, 17.0, 900.0]), torch.tensor(1.0), torch.zeros((), dtype=torch.float8_e4m3fn)
    )
    assert small.tolist() == [0.0, 1.0, 1.0, 16.0, 448.0], "three bits of mantissa, up to 448"


def test_what_is_recorded_are_the_channels_largest_sizes(network):
    largest, mean = Recorder(), Recorder("min-mean")
    batches = [torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 1.0]]), torch.tensor([[-4.0, 0.5]])]
    for recorder in (largest, mean):
        for level, values in ((0, batches[0]), (0, batches[1]), (1, batches[2])):
            recorder.level = level
            recorder.see("layer", values)
    assert largest.maxima()["layer"].tolist() == [4.0, 2.0]
    assert mean.maxima()["layer"].tolist() == [2.5, 0.75], "(min(1, 3) + 4) / 2, (min(2, 1) + 0.5) / 2"


def test_the_digest_is_of_ranges_and_recipe(calibration):
    same = Calibration(dict(reversed(calibration.maxima.items())))
    assert same.digest == calibration.digest
    others = [Calibration(calibration.maxima, alpha=0.5), Calibration({**calibration.maxima, "0": torch.ones(16)})]
    assert len({calibration.digest, *(one.digest for one in others)}) == 3


def test_layers_of_a_quantised_copy(network, calibration):
    quantised = eight_bit_network(network, calibration, "int8")
    assert [type(layer).__name__ for layer in quantised.module.children()] == [
        "EightBitLinear",
        "GELU",
        "EightBitLinear",
        "Linear",
    ]
    assert isinstance(network.module[0], torch.nn.Linear), "the original stays as it is"
    with pytest.raises(ValueError, match="knows no layer"):
        eight_bit_network(network, Calibration({}), "int8")


def errors(network, calibration, precision):
    quantised = eight_bit_network(network, calibration, precision)
    inputs = network.sample({"batch": 8}, torch.float32, seed=99)
    truth = network.forward(network.module, **inputs)
    return float((network.forward(quantised.module, **inputs) - truth).abs().max() / truth.abs().max())


def test_smoothing_saves_the_small_channels(network, calibration):
    """Without it, a channel of forty times the size leaves the others two bits of eight."""
    inputs = network.sample({"batch": 8}, torch.float32, seed=99)["x"]
    linear = network.module[0]
    reach = calibration.maxima["0"].amax()
    coarse = round_trip(inputs, reach / 127, torch.zeros((), dtype=torch.int8))
    plain = (torch.nn.functional.linear(coarse, linear.weight, linear.bias) - linear(inputs)).abs().mean()
    layer = EightBitLinear(linear, calibration.maxima["0"], "int8", alpha=0.8)
    assert (layer(inputs) - linear(inputs)).abs().mean() < plain / 4
    assert errors(network, calibration, "int8") < 0.02
    assert 0.002 < errors(network, calibration, "fp8") < 0.1


def test_weights_are_rounded_by_output_channel():
    linear = torch.nn.Linear(4, 3, bias=False).requires_grad_(requires_grad=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 0.5, 0.25, 0.1], [100, 50, 25, 10], [0.01, 0.0, 0.0, 0.0]]))
    layer = EightBitLinear(linear, torch.ones(4), "int8", alpha=0.0)
    undone = layer.weight * layer.get_buffer("divided")
    assert torch.allclose(undone, linear.weight)
    assert layer.weight_scale.shape == (3,)
    assert (
        float((layer(torch.eye(4)).T - linear.weight).abs().div(linear.weight.abs().amax(1, keepdim=True)).max()) < 0.02
    )


def test_onnx_and_onnx_runtime_compute_the_same_numbers(network, calibration, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    quantised = eight_bit_network(network, calibration, "int8")
    path = tmp_path / "model.onnx"
    write_onnx(quantised, export_program(quantised, ranges_of(network)), path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    reference = ReferenceEvaluator(str(path))
    kinds = [node.op_type for node in reference.proto_.graph.node]
    assert (kinds.count("QuantizeLinear"), kinds.count("DequantizeLinear")) == (4, 4), (
        "inputs and weights of two layers"
    )
    for rows in (1, 5):
        inputs = network.sample({"batch": rows}, torch.float32, seed=rows)
        torchs = quantised.module(inputs["x"]).numpy()
        for runtime in (session, reference):
            found = np.asarray(next(iter(runtime.run(None, {"x": inputs["x"].numpy()}))))
            assert np.abs(found - torchs).max() < 1e-5 * np.abs(torchs).max()


def test_an_engine_in_eight_bits_from_build_to_load(network, calibration, tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(PrefmillError, match="no calibration"):
        build_engine(network, "onnxruntime", "int8", CPU, tmp_path)
    folder, artifact = build_engine(network, "onnxruntime", "int8", CPU, tmp_path, calibration=calibration)
    assert artifact.state == "verified"
    assert artifact.identity.calibration == calibration.digest
    settings = EngineSettings(device="cpu", backend="onnxruntime", dtype="int8", artifacts=str(tmp_path))
    runner = make_runner(network, settings)
    assert (runner.execution.precision, runner.dtype) == ("int8", torch.float32)
    inputs = network.sample({"batch": 4}, torch.float32)
    quantised = eight_bit_network(network, calibration, "int8")
    assert torch.allclose(runner.run(inputs)["y"], quantised.module(inputs["x"]), rtol=1e-4, atol=1e-5)
    with pytest.raises(PrefmillError, match="in float32 fits"):
        make_runner(network, settings.model_copy(update={"dtype": "auto"}))
    with pytest.raises(PrefmillError, match="eager does not compute in int8"):
        make_runner(network, EngineSettings(device="cpu", dtype="int8"))
    assert build_engine(network, "onnxruntime", "int8", CPU, tmp_path, calibration=calibration)[0] == folder


def test_products_of_large_numbers_do_not_overflow(tmp_path):
    """Two products of 127 and 127 do not fit into the sixteen bits that some CPUs add them up in."""
    pytest.importorskip("onnxruntime")
    layer = torch.nn.Linear(64, 64, bias=False).requires_grad_(requires_grad=False)
    layer.weight.fill_(0.5)
    network = Network("large", torch.nn.Sequential(layer), _forward, {"x": Input((BATCH, 64))}, ("y",), kept_precise=())
    same = torch.ones(8, 64)
    calibration = Calibration({"0": torch.ones(64)}, samples={"x": same})
    folder, artifact = build_engine(network, "onnxruntime", "int8", CPU, tmp_path, calibration=calibration)
    assert artifact.state == "verified"
    assert max(row.maximum_relative_error for row in artifact.parity) < 0.01
    assert (folder / SAMPLES).is_file()


def test_an_engine_is_held_against_what_its_network_really_reads(network, calibration, tmp_path):
    """Inputs a hundred times as large as any that was seen are cut off; that is no fault of the engine's."""
    pytest.importorskip("onnxruntime")
    foreign = Input((BATCH, 16), draw=lambda shape, generator: 100 * torch.rand(shape, generator=generator))
    misled = replace(network, inputs={"x": foreign})
    with pytest.raises(ParityError):
        build_engine(misled, "onnxruntime", "int8", CPU, tmp_path / "noise", calibration=calibration)
    seen = replace(calibration, samples=network.sample({"batch": 5}, torch.float32))
    _, artifact = build_engine(misled, "onnxruntime", "int8", CPU, tmp_path / "real", calibration=seen)
    assert [row.sizes for row in artifact.parity] == [{"batch": rows} for rows in (1, 2, 7, 3, 8)]


def test_rows_are_kept_from_all_calls_and_handed_out_in_turn():
    batch = Dimension("batch", 1, 3, 8)
    module = torch.nn.Linear(1, 1)
    inputs = {"x": Input((batch, 1)), "level": Input((batch,)), "empty": Input((1, 2))}
    network = Network("toy", module, lambda m, x, level, empty: m(x), inputs, ("y",))
    listener = Listener(EagerRunner(network), calls=31)
    for call in range(31):
        listener.run(
            {"x": torch.arange(3.0)[:, None] + 10 * call, "level": torch.full((3,), call), "empty": torch.ones(1, 2)}
        )
    kept = listener.samples()
    assert kept["level"].tolist() == list(range(0, 31, 2)), "from the first call to the last"
    assert kept["x"].flatten().tolist() == [20.0 * number + number % 3 for number in range(16)], "another row each time"
    assert kept["empty"].shape == (1, 2)
    rows = batch_of(network, kept, 4, first=14)
    assert rows["level"].tolist() == [28, 30, 0, 2]
    assert rows["empty"].shape == (1, 2)


@pytest.fixture(scope="module")
def text_to_image():
    return TextToImage.from_pretrained("random:text-to-image", EngineSettings(device="cpu"))


def test_a_calibration_reads_prompts_and_leaves_no_hook(text_to_image):
    """The layers that the published recipe names are left alone; nothing stays on the module."""
    module = text_to_image.steps.guided.network.module
    found = calibrate(text_to_image, ["a red kite"], [3.0, 7.0], steps=2)
    assert not any(layer._forward_pre_hooks for layer in module.modules())
    assert "transformer_blocks.0.attn.to_q" in found.maxima
    first, last = found.samples["level"].tolist()
    assert first == 1 > last, "a row of each call"
    assert found.samples["guidance"].tolist() == [3.0, 7.0]
    left = ("time_text_embed", "context_embedder", "pos_embed", "norm_out", "proj_out")
    assert not [name for name in found.maxima if name.startswith(left)]
    assert found.digest != calibrate(text_to_image, ["a blue boat"], [3.0, 7.0], steps=2).digest
    with pytest.raises(PrefmillError, match="needs prompts"):
        calibrate(text_to_image, [], [3.0])
