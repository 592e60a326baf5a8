import hashlib

import torch
from prefmill.compile.interchange import export_network

from .conftest import toy


def test_a_network_as_files_for_other_tools(tmp_path):
    network = toy()
    described = export_network(network, tmp_path / "stage")
    assert set(described["files"]) == {"toy.pt2", "toy.onnx"}
    for name, digest in described["files"].items():
        assert hashlib.sha256((tmp_path / "stage" / name).read_bytes()).hexdigest() == digest
    assert described["inputs"]["pixels"] == {"axes": ["rows", "wide", 3], "dtype": "float32"}
    assert described["ranges"] == {"rows": [1, 2, 4], "wide": [2, 4, 8]}
    inputs = network.sample({"rows": 3, "wide": 6}, torch.float32)
    loaded = torch.export.load(tmp_path / "stage" / "toy.pt2").module()
    (found,) = loaded(*inputs.values())
    wanted = network.forward(network.module, **inputs)
    assert isinstance(wanted, torch.Tensor)
    assert torch.equal(found, wanted)
