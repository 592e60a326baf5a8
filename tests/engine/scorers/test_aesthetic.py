"""The aesthetic head: both published forms, folded exactly, and every way in which its file can be wrong."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.engine.scorers.aesthetic import AestheticScorer, load_aesthetic_head
from prefmill.engine.settings import EngineSettings
from safetensors.torch import save_file
from transformers import CLIPModel

PICTURES = [Image.fromarray(np.random.default_rng(row).integers(0, 256, (64, 64, 3), dtype=np.uint8)) for row in (0, 1)]


@pytest.fixture
def folder(engine_checkpoints, tmp_path):
    """A CLIP without a head."""
    shutil.copytree(engine_checkpoints["clip"], tmp_path / "model")
    return tmp_path / "model"


def five_layers(width=48):
    sizes = (width, 32, 16, 8, 4, 1)
    stream = torch.Generator().manual_seed(0)
    state = {}
    for number, rows, columns in zip((0, 2, 4, 6, 7), sizes[1:], sizes, strict=False):
        state[f"layers.{number}.weight"] = torch.randn(rows, columns, generator=stream) / columns**0.5
        state[f"layers.{number}.bias"] = torch.randn(rows, generator=stream)
    return state


def test_five_layers_are_folded_to_what_they_compute(folder):
    state = five_layers()
    torch.save(state, folder / "linearMSE.pth")
    scorer = AestheticScorer.from_pretrained(str(folder), EngineSettings(device="cpu"))
    pixels = scorer.preprocess(PICTURES)
    with torch.no_grad():
        tower = CLIPModel.from_pretrained(folder).eval()
        expected = tower(pixel_values=pixels, input_ids=torch.ones(1, 2, dtype=torch.long)).image_embeds
    for number in (0, 2, 4, 6, 7):
        expected = torch.nn.functional.linear(
            expected, state[f"layers.{number}.weight"], state[f"layers.{number}.bias"]
        )
    found = scorer.score(pixels, ["read", "by nobody"])
    torch.testing.assert_close(found.values, expected.squeeze(-1), atol=1e-5, rtol=0)
    assert torch.equal(scorer.score(pixels, ["", ""]).values, found.values)


def test_a_single_layer_in_both_containers_is_one_scorer(folder):
    state = {"weight": torch.randn(1, 48), "bias": torch.randn(1)}
    save_file(state, folder / "aesthetic.safetensors")
    first = load_aesthetic_head(folder, 48)
    (folder / "aesthetic.safetensors").unlink()
    torch.save(state, folder / "sa_0_4_vit_l_14_linear.pth")
    second = load_aesthetic_head(folder, 48)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, state["bias"])


def test_the_head_is_part_of_the_key(folder):
    keys = set()
    for value in (1.0, 2.0):
        torch.save({"weight": torch.full((1, 48), value), "bias": torch.zeros(1)}, folder / "head.pth")
        keys.add(AestheticScorer.from_pretrained(str(folder), EngineSettings(device="cpu")).key)
    assert len(keys) == 2
    assert all(key.startswith("aesthetic@") for key in keys)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(1, 40), "bias": torch.zeros(1)}, r"is \[1, 40\], not \[1, 48\]"),
        ({"weight": torch.zeros(2, 48), "bias": torch.zeros(2)}, r"is \[2, 48\]"),
        ({"weight": torch.zeros(1, 48)}, "no aesthetic head"),
        ({"something": torch.zeros(1)}, "no aesthetic head"),
        ({"layers.0.weight": torch.zeros(1, 48), "layers.2.bias": torch.zeros(1)}, "no aesthetic head|lack"),
        (
            {
                "layers.0.weight": torch.zeros(8, 48),
                "layers.0.bias": torch.zeros(8),
                "layers.1.weight": torch.zeros(1, 9),
                "layers.1.bias": torch.zeros(1),
            },
            "its input has 8 values",
        ),
    ],
)
def test_heads_that_do_not_fit(folder, state, message):
    torch.save(state, folder / "head.pth")
    with pytest.raises(PrefmillError, match=message):
        load_aesthetic_head(folder, 48)


def test_no_head_two_heads_and_a_cut_head(folder):
    with pytest.raises(PrefmillError, match="found none"):
        load_aesthetic_head(folder, 48)
    (folder / "first.pth").write_bytes(b"cut")
    with pytest.raises(PrefmillError, match="truncated"):
        load_aesthetic_head(folder, 48)
    (folder / "second.pth").write_bytes(b"cut")
    with pytest.raises(PrefmillError, match=r"first\.pth, second\.pth"):
        load_aesthetic_head(folder, 48)
    (folder / "first.pth").unlink()
    (folder / "second.pth").unlink()
    (folder / "head.safetensors").write_bytes(b"cut")
    with pytest.raises(PrefmillError, match="truncated"):
        load_aesthetic_head(folder, 48)
