"""HPSv2: open_clip's names converted by an independent inverse, and every way in which its file can be wrong.

The conversion was once held against open_clip itself (open_clip_torch 3.3.0, torch 2.13.0, float32 on a CPU), in an
environment of its own: `open_clip.model.CLIP(48, CLIPVisionCfg(...), CLIPTextCfg(...))` of the random checkpoint's size
with random weights, its state dict saved as HPS_v2.1_compressed.pt into that checkpoint's folder, loaded here. Features
of 4 images differed by 9e-8, those of 4 texts (one empty, one cut; open_clip's zeros behind the end) by nothing, the
scores by 5e-6. Of its ViT-H-14, all names were converted and all shapes were those of `official_config`.
"""

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.engine.image_inputs import PIXEL_DEVIATION, PIXEL_MEAN
from prefmill.engine.networks.open_clip import convert_open_clip_state_dict
from prefmill.engine.scorers.hpsv2 import HpsV2Scorer, load_hpsv2, official_config
from prefmill.engine.scorers.pickscore import PickScoreScorer
from prefmill.engine.settings import EngineSettings
from prefmill.engine.sources import check_folder
from transformers import CLIPModel

CPU = EngineSettings(device="cpu")
PROMPTS = ["a red cat", "two dogs near the sea, painted in oil", ""]


def pictures(*sizes):
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize(size) for size in sizes]


def open_clip_names(model: Any) -> dict[str, torch.Tensor]:
    """A transformers CLIP's weights under open_clip's names, tower by tower and layer by layer."""
    state: dict[str, torch.Tensor] = {"logit_scale": model.logit_scale.data, "attn_mask": torch.zeros(77, 77)}
    vision, text = model.vision_model, model.text_model
    state["visual.class_embedding"] = vision.embeddings.class_embedding.data
    state["visual.conv1.weight"] = vision.embeddings.patch_embedding.weight.data
    state["visual.positional_embedding"] = vision.embeddings.position_embedding.weight.data
    state["visual.proj"] = model.visual_projection.weight.data.T
    state["token_embedding.weight"] = text.embeddings.token_embedding.weight.data
    state["positional_embedding"] = text.embeddings.position_embedding.weight.data
    state["text_projection"] = model.text_projection.weight.data.T
    norms: dict[str, Any] = {"visual.ln_pre": vision.pre_layrnorm, "visual.ln_post": vision.post_layernorm}
    norms["ln_final"] = text.final_layer_norm
    for prefix, tower in (("visual.", vision), ("", text)):
        for number, layer in enumerate(tower.encoder.layers):
            block, attention = f"{prefix}transformer.resblocks.{number}", layer.self_attn
            three = (attention.q_proj, attention.k_proj, attention.v_proj)
            state[f"{block}.attn.in_proj_weight"] = torch.cat([one.weight.data for one in three])
            state[f"{block}.attn.in_proj_bias"] = torch.cat([one.bias.data for one in three])
            norms |= {f"{block}.ln_1": layer.layer_norm1, f"{block}.ln_2": layer.layer_norm2}
            norms |= {f"{block}.attn.out_proj": attention.out_proj}
            norms |= {f"{block}.mlp.c_fc": layer.mlp.fc1, f"{block}.mlp.c_proj": layer.mlp.fc2}
    for name, module in norms.items():
        state |= {f"{name}.weight": module.weight.data, f"{name}.bias": module.bias.data}
    return state


@pytest.fixture(scope="module")
def tiny(engine_checkpoints):
    return CLIPModel.from_pretrained(engine_checkpoints["hpsv2"]).eval()


@pytest.fixture
def official(engine_checkpoints, tiny, tmp_path):
    """A folder as the official one, with a config that makes it small; and its state."""
    folder = shutil.copytree(engine_checkpoints["hpsv2"], tmp_path / "model")
    (folder / "model.safetensors").unlink()
    state = open_clip_names(tiny)
    torch.save({"state_dict": state}, folder / "HPS_v2.1_compressed.pt")
    return folder, state


def test_names_are_converted_and_no_value_is_lost(tiny):
    converted = convert_open_clip_state_dict(open_clip_names(tiny))
    expected = tiny.state_dict()
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], expected[name]) for name in expected)


def test_the_official_file_scores_a_hundred_cosines(official, engine_checkpoints, tiny):
    folder, _ = official
    check_folder(folder)
    scorer = HpsV2Scorer.from_pretrained(str(folder), CPU)
    assert scorer.key.startswith("hpsv2@")
    pixels = scorer.preprocess(pictures((64, 64), (90, 64), (64, 64)))
    text = scorer.tokenizer(PROMPTS, padding="max_length", max_length=77, return_tensors="pt")
    with torch.no_grad():
        output = tiny(pixel_values=pixels, **text)
    expected = 100 * torch.nn.functional.cosine_similarity(output.image_embeds, output.text_embeds)
    torch.testing.assert_close(scorer.score(pixels, PROMPTS).values, expected, atol=1e-4, rtol=0)
    same = HpsV2Scorer.from_pretrained(str(engine_checkpoints["hpsv2"]), CPU)
    assert torch.equal(same.score(pixels, PROMPTS).values, scorer.score(pixels, PROMPTS).values)


def test_pickscore_is_the_models_own_logit(engine_checkpoints):
    scorer = PickScoreScorer.from_pretrained(str(engine_checkpoints["pickscore"]), CPU)
    pixels = scorer.preprocess(pictures((64, 64), (90, 64), (70, 90)))
    model = CLIPModel.from_pretrained(engine_checkpoints["pickscore"]).eval()
    text = scorer.tokenizer(PROMPTS, padding="max_length", max_length=77, return_tensors="pt")
    with torch.no_grad():
        expected = model(pixel_values=pixels, **text).logits_per_image.diagonal()
    torch.testing.assert_close(scorer.score(pixels, PROMPTS).values, expected, atol=1e-5, rtol=0)
    assert scorer.key.startswith("pickscore@")
    assert scorer.scale == pytest.approx(model.logit_scale.detach().exp().item())


def test_the_whole_image_is_read_on_black(engine_checkpoints):
    scorer = HpsV2Scorer.from_pretrained(str(engine_checkpoints["hpsv2"]), CPU)
    wide = Image.new("RGB", (128, 64), "white")
    mean, deviation = (torch.tensor(three).view(3, 1, 1) for three in (PIXEL_MEAN, PIXEL_DEVIATION))
    pixels = (scorer.preprocess([wide])[0] * deviation + mean).mean(0)
    expected = torch.zeros(64, 64)
    expected[16:48] = 1
    torch.testing.assert_close(pixels, expected, atol=1e-6, rtol=0)
    decoded = torch.full((1, 3, 64, 128), 255, dtype=torch.uint8)
    assert torch.equal(scorer.preprocess(decoded), scorer.preprocess([wide]))


def test_the_published_size(engine_checkpoints):
    with torch.device("meta"):
        model = CLIPModel(official_config())
    assert sum(parameter.numel() for parameter in model.parameters()) == 986_109_441  # as open_clip counts ViT-H-14


def spoiled(state, change):
    change(state)
    return {"state_dict": state}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("ln_final.bias"), r"missing: text_model\.final_layer_norm\.bias"),
        (lambda state: state.update(score_predictor=torch.zeros(1)), "'score_predictor' is no weight"),
        (lambda state: state.update({"visual.proj": torch.zeros(48, 40)}), "visual_projection.weight is"),
        (
            lambda state: state.update({"transformer.resblocks.0.attn.in_proj_bias": torch.zeros(10)}),
            "10 rows, not three times",
        ),
        (
            lambda state: state.update({"transformer.resblocks.9.ln_1.bias": torch.zeros(48)}),
            r"unexpected: text_model\.encoder\.layers\.9",
        ),
    ],
)
def test_weights_that_do_not_fit(official, change, message):
    folder, state = official
    torch.save(spoiled(state, change), folder / "HPS_v2.1_compressed.pt")
    with pytest.raises(PrefmillError, match=message):
        load_hpsv2(folder)


def test_files_that_are_no_weights(official):
    folder, state = official
    torch.save(state, folder / "HPS_v2.1_compressed.pt")
    with pytest.raises(PrefmillError, match="holds no state_dict"):
        load_hpsv2(folder)
    torch.save({"state_dict": {"ln_final.bias": print}}, folder / "HPS_v2.1_compressed.pt")
    with pytest.raises(PrefmillError, match="truncated or no weight file"):
        load_hpsv2(folder)
    (folder / "HPS_v2.1_compressed.pt").write_bytes(b"cut")
    with pytest.raises(PrefmillError, match="truncated or no weight file"):
        load_hpsv2(folder)
    (folder / "HPS_v2_compressed.pt").write_bytes(b"cut")
    with pytest.raises(PrefmillError, match="whose scores differ"):
        load_hpsv2(folder)
