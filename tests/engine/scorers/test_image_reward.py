import json
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.engine.device import EngineSettings
from prefmill.engine.networks import image_reward as image_reward_model
from prefmill.engine.scorers.image_reward import (
    ImageRewardConfig,
    ImageRewardModel,
    ImageRewardScorer,
    convert_official_state_dict,
    load_image_reward,
    official_config,
)
from prefmill.engine.scorers.image_reward_conversion import convert_image_reward
from transformers import BlipTextConfig, BlipVisionConfig


@pytest.fixture(scope="module")
def scorer(engine_checkpoints):
    return ImageRewardScorer.from_pretrained(str(engine_checkpoints["image-reward"]), EngineSettings(device="cpu"))


@pytest.fixture
def pictures():
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(3)]


def official_shapes(width=16, layers=2, patches=4, vocabulary=50):
    """The official names with tiny sizes."""
    v, t = "blip.visual_encoder", "blip.text_encoder"
    shapes = {f"{v}.cls_token": [1, 1, width], f"{v}.pos_embed": [1, patches + 1, width]}
    shapes |= {f"{v}.patch_embed.proj.weight": [width, 3, 16, 16], f"{v}.patch_embed.proj.bias": [width]}

    def norm(name):
        shapes.update({f"{name}.weight": [width], f"{name}.bias": [width]})

    def linear(name, rows=width, columns=width):
        shapes.update({f"{name}.weight": [rows, columns], f"{name}.bias": [rows]})

    norm(f"{v}.norm")
    shapes |= {f"{t}.embeddings.word_embeddings.weight": [vocabulary, width]}
    shapes |= {f"{t}.embeddings.position_embeddings.weight": [40, width]}
    norm(f"{t}.embeddings.LayerNorm")
    for number in range(layers):
        block, layer = f"{v}.blocks.{number}", f"{t}.encoder.layer.{number}"
        norm(f"{block}.norm1")
        norm(f"{block}.norm2")
        linear(f"{block}.attn.qkv", 3 * width)
        linear(f"{block}.attn.proj")
        linear(f"{block}.mlp.fc1", 2 * width)
        linear(f"{block}.mlp.fc2", width, 2 * width)
        for attention in ("attention", "crossattention"):
            for part in ("self.query", "self.key", "self.value", "output.dense"):
                linear(f"{layer}.{attention}.{part}")
            norm(f"{layer}.{attention}.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", 2 * width)
        linear(f"{layer}.output.dense", width, 2 * width)
        norm(f"{layer}.output.LayerNorm")
    linear("blip.vision_proj", 8)
    linear("blip.text_proj", 8)
    for number, (rows, columns) in zip((0, 2, 4, 6, 7), ((32, width), (16, 32), (8, 16), (4, 8), (1, 4)), strict=True):
        linear(f"mlp.layers.{number}", rows, columns)
    return shapes


def tiny_config(**_):
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    return ImageRewardConfig(
        vision_config=BlipVisionConfig(**sizes, image_size=32, patch_size=16, layer_norm_eps=1e-6),
        text_config=BlipTextConfig(
            **sizes, vocab_size=50, encoder_hidden_size=16, max_position_embeddings=40, is_decoder=True
        ),
    )


@pytest.fixture
def official_folder(tmp_path, monkeypatch, golden_weights):
    """A folder in the official form, with tiny sizes in place of the official ones."""
    monkeypatch.setattr(image_reward_model, "official_config", tiny_config)
    state = golden_weights(official_shapes())
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
    torch.save(state, tmp_path / "ImageReward.pt")
    (tmp_path / "med_config.json").write_text(json.dumps({"model_type": "bert", "encoder_width": 768}))
    return tmp_path


def test_golden_rewards_of_the_full_size_model(load_golden, golden_weights, sample_images):
    golden = load_golden("imagereward.json")
    shapes = {name: shape for name, shape in golden["state_dict_shapes"].items() if "position_ids" not in name}
    model = ImageRewardModel(official_config())
    model.load_state_dict(convert_official_state_dict(golden_weights(shapes)), assign=True)
    scorer = ImageRewardScorer(model.eval(), cast(Any, None), "golden")
    cases = golden["cases"][::8]
    assert len({case["image"] for case in cases}) == len(cases) == 3
    pixels = scorer.preprocess([Image.open(sample_images / f"{case['image']}.webp") for case in cases])
    with torch.inference_mode():
        rewards = model(
            pixels,
            torch.tensor([case["input_ids"] for case in cases]),
            torch.tensor([case["attention_mask"] for case in cases]),
        )
    torch.testing.assert_close(
        pixels.mean((1, 2, 3)), torch.tensor([case["pixel_mean"] for case in cases]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(rewards, torch.tensor([case["reward"] for case in cases]), atol=1e-4, rtol=0)


def test_the_official_folder_loads_and_its_head_is_folded_exactly(official_folder):
    model = load_image_reward(official_folder)
    state = torch.load(official_folder / "ImageReward.pt", weights_only=True)
    hidden = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    expected = hidden
    for number in (0, 2, 4, 6, 7):
        weight, bias = state[f"mlp.layers.{number}.weight"], state[f"mlp.layers.{number}.bias"]
        expected = torch.nn.functional.linear(expected, weight, bias)
    torch.testing.assert_close(model.head(hidden), expected, atol=1e-5, rtol=0)
    assert not model.training


def test_saving_an_official_model_in_our_form_changes_no_reward(official_folder, tmp_path):
    model = load_image_reward(official_folder)
    model.save_pretrained(tmp_path / "ours")
    again = load_image_reward(tmp_path / "ours")
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda state: state.pop("mlp.layers.4.bias"), r"mlp\.layers\.4\.bias"),
        (lambda state: state.pop("blip.visual_encoder.norm.bias"), r"missing: vision_model\.post_layernorm\.bias"),
        (lambda state: state.update({"blip.queue": torch.zeros(2)}), "blip.queue"),
        (lambda state: state.update({"blip.visual_encoder.norm.bias": torch.zeros(2)}), r"is \[2\], not \[16\]"),
    ],
)
def test_official_weights_that_do_not_fit(official_folder, edit, message):
    path = official_folder / "ImageReward.pt"
    state = torch.load(path, weights_only=True)
    edit(state)
    torch.save(state, path)
    with pytest.raises(PrefmillError, match=message):
        load_image_reward(official_folder)


def test_official_weights_that_are_cut_or_hold_code(official_folder):
    path = official_folder / "ImageReward.pt"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(PrefmillError, match="truncated"):
        load_image_reward(official_folder)
    torch.save({"hook": pytest.raises}, path)
    with pytest.raises(PrefmillError, match="truncated or no weight file"):
        load_image_reward(official_folder)


@pytest.mark.parametrize("size", [(64, 64), (640, 480), (333, 500), (100, 1000), (224, 224)])
def test_preprocessing_is_resize_crop_normalise(scorer, size):
    """Against a second route: crop box and resize in one Pillow call, the arithmetic in float64."""
    pixels = np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    width, height = size
    long_side = int(224 * max(size) / min(size))
    resized = (224, long_side) if width <= height else (long_side, 224)
    image = Image.fromarray(pixels).resize(resized, Image.Resampling.BICUBIC)
    start = round((long_side - 224) / 2)
    box = (0, start, 224, start + 224) if width <= height else (start, 0, start + 224, 224)
    cropped = np.asarray(image.crop(box)).astype(np.float64) / 255
    expected = (cropped - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    found = scorer.preprocess([Image.fromarray(pixels)])[0]
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_a_score_does_not_depend_on_its_batch(scorer, pictures):
    prompts = ["a cat", "two dogs on a hill", ""]
    batch = scorer.score(scorer.preprocess(pictures), prompts)
    assert batch.values.shape == (3,)
    assert batch.values.dtype == torch.float32
    assert batch.values.std() > 1e-3
    for row in range(3):
        single = scorer.score(scorer.preprocess(pictures[row : row + 1]), prompts[row : row + 1])
        assert abs(single.values.item() - batch.values[row].item()) < 1e-5


def test_truncation_is_reported(scorer, pictures):
    fits = " ".join(["cat"] * 33)  # 33 words and the two special tokens
    scores = scorer.score(scorer.preprocess(pictures), [fits, fits + " dog", "x " * 500_000])
    assert scores.truncated == [False, True, True]
    cut = scorer.score(scorer.preprocess(pictures[:1]), [fits + " dog tree"])
    whole = scorer.score(scorer.preprocess(pictures[:1]), [fits])
    assert cut.values.item() == pytest.approx(whole.values.item(), abs=1e-6)


def test_nothing_to_score(scorer):
    assert scorer.score(torch.empty(0, 3, 224, 224), []).truncated == []


def test_unequal_counts(scorer, pictures):
    with pytest.raises(PrefmillError, match="3 images came with 1 prompts"):
        scorer.score(scorer.preprocess(pictures), ["a cat"])


def test_a_score_that_is_not_finite_is_returned(engine_checkpoints, pictures):
    scorer = ImageRewardScorer.from_pretrained(str(engine_checkpoints["image-reward"]), EngineSettings(device="cpu"))
    with torch.no_grad():
        scorer.model.head.bias.fill_(float("nan"))
    assert scorer.score(scorer.preprocess(pictures), ["a", "b", "c"]).values.isnan().all()


def test_the_head_goes_through_the_kernel_without_gradients(scorer, pictures, monkeypatch):
    from prefmill.engine.networks import image_reward

    calls, kernel = [], image_reward.affine_rewards
    monkeypatch.setattr(image_reward, "affine_rewards", lambda *given: calls.append(1) or kernel(*given))
    scores = scorer.score(scorer.preprocess(pictures), ["a", "b", "c"]).values
    assert calls == [1]
    tokens, mask, _ = scorer.tokenize(["a", "b", "c"])
    with torch.enable_grad():
        learned = scorer.model(scorer.preprocess(pictures), tokens, mask)
    assert calls == [1]
    assert learned.requires_grad
    torch.testing.assert_close(scores, learned.detach(), atol=1e-6, rtol=1e-6)


def test_conversion_gives_a_folder_that_scores_the_same_without_the_official_file(official_folder, tmp_path, pictures):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "cat"]
    (official_folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    key = convert_image_reward(str(official_folder), tmp_path / "converted")
    assert {"config.json", "model.safetensors"} <= {path.name for path in (tmp_path / "converted").iterdir()}
    before, after = (
        ImageRewardScorer.from_pretrained(str(folder), EngineSettings(device="cpu"))
        for folder in (official_folder, tmp_path / "converted")
    )
    assert after.key == key
    assert before.rank("red cat", pictures).scores == pytest.approx(after.rank("red cat", pictures).scores, abs=1e-6)
    with pytest.raises(PrefmillError, match="exists already"):
        convert_image_reward(str(official_folder), tmp_path / "converted")
