import json
import zlib
from pathlib import Path

import pytest
import torch
from prefmill.engine.tiny.catalogue import build_all

SHARED = Path(__file__).parents[3] / "shared"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def engine_checkpoints(tmp_path_factory):
    """Name to folder of every random-weight checkpoint."""
    return build_all(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def load_golden():
    """Values that the reference implementations computed, where the files with them are present."""

    def load(name: str) -> dict:
        path = SHARED / "golden" / name
        if not path.is_file():
            pytest.skip(f"the golden file {name} is not here")
        return json.loads(path.read_text())

    return load


@pytest.fixture
def sample_images():
    """The folder of real candidate images that the golden values are about."""
    folder = SHARED / "data" / "pdsdpo-sample" / "images"
    if not folder.is_dir():
        pytest.skip("the sample images are not here")
    return folder


@pytest.fixture
def golden_weights():
    """The weights of the golden files: a function of the parameter's name in the reference's state dict."""

    def build(shapes: dict[str, list[int]], around_one: tuple[str, ...] = ("weight",)) -> dict[str, torch.Tensor]:
        state = {}
        for name, shape in shapes.items():
            stream = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            values = torch.randn(shape, generator=stream)
            if len(shape) >= 2:
                values /= (values.numel() / shape[0]) ** 0.5
            else:
                values = 0.1 * values + (1 if name.endswith(around_one) else 0)
            state[name] = values
        return state

    return build
