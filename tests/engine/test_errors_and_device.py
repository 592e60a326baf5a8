import copy
import pickle
import subprocess
import sys

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.device import (
    EngineSettings,
    hardware_description,
    resolve_device,
    resolve_dtype,
    why_no_bfloat16,
)
from prefmill.engine.images import UnreadableImage
from pydantic import ValidationError


def test_the_error_ends_with_its_fix():
    assert str(PrefmillError("no such folder", "make it")) == "no such folder\n  fix: make it"
    assert str(PrefmillError("no such folder")) == "no such folder"


def test_errors_survive_pickling():
    plain = pickle.loads(pickle.dumps(PrefmillError("message", "fix")))
    assert (plain.message, plain.fix) == ("message", "fix")
    image = pickle.loads(pickle.dumps(UnreadableImage("truncated", "cut")))
    assert (image.reason, image.detail, str(image)) == ("truncated", "cut", str(UnreadableImage("truncated", "cut")))
    assert copy.copy(image).reason == "truncated"


def test_errors_and_settings_import_nothing_heavy():
    code = (
        "import sys, prefmill.base.errors, prefmill.engine.settings;"
        "sys.exit(bool({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_asked_for_where_there_is_none(device):
    with pytest.raises(PrefmillError, match="no GPU") as caught:
        resolve_device(EngineSettings(device=device))
    assert device in caught.value.message
    assert caught.value.fix == "--set engine.device=cpu"


def test_a_gpu_number_beyond_the_last(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device(EngineSettings()) == torch.device("cuda", 0)
    assert resolve_device(EngineSettings(device="cuda:1")) == torch.device("cuda", 1)
    with pytest.raises(PrefmillError, match="cuda:1"):
        resolve_device(EngineSettings(device="cuda:2"))


def test_auto_precision_follows_the_device():
    assert resolve_dtype(EngineSettings(), torch.device("cpu")) == torch.float32
    assert resolve_dtype(EngineSettings(), torch.device("cuda")) == torch.bfloat16
    assert resolve_dtype(EngineSettings(dtype="float16"), torch.device("cpu")) == torch.float16


@pytest.mark.parametrize("settings", [{"device": "gpu"}, {"dtype": "int4"}, {"devise": "cpu"}])
def test_settings_refuse_what_they_do_not_know(settings):
    with pytest.raises(ValidationError):
        EngineSettings(**settings)


def test_hardware_description_is_text():
    description = hardware_description()
    assert {"cpu", "cores", "torch"} <= description.keys()
    assert all(isinstance(value, str) and value for value in description.values())


@pytest.mark.parametrize(("flag", "multiplies"), [("avx512_bf16", True), ("amx_bf16", True), ("avx512_f", False)])
def test_a_processor_is_asked_for_bfloat16(monkeypatch, flag, multiplies):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {flag: True, "cpu_name": "a CPU"})
    assert (why_no_bfloat16() == "") is multiplies
