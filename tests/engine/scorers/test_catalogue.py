"""CLIP, BLIP and aesthetic scores against the library's own models and processors, and what all scorers share."""

import numpy as np
import pytest
import torch
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.engine.device import Execution
from prefmill.engine.image_inputs import ImagePreprocessing, to_pictures
from prefmill.engine.scorers.catalogue import IMAGE_SCORERS, load_image_scorer
from prefmill.engine.settings import EngineSettings
from prefmill.kernels.pixels.prepare import prepare_pixels
from transformers import (
    BlipForImageTextRetrieval,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPModel,
)

PLACES = {"imagereward": "image-reward"} | {name: name for name in ("clip", "blip", "pickscore", "hpsv2", "aesthetic")}
PROMPTS = ["a red cat", "two dogs near the sea, painted in oil", "", "猫"]
CPU = EngineSettings(device="cpu")


def picture(width: int, height: int, seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height))


PICTURES = [picture(64, 64, 0), picture(100, 64, 1), picture(70, 300, 2), picture(512, 512, 3)]


@pytest.fixture(scope="module")
def scorers(engine_checkpoints):
    return {name: load_image_scorer(name, str(engine_checkpoints[place]), CPU) for name, place in PLACES.items()}


@pytest.fixture(params=PLACES)
def scorer(request, scorers):
    return scorers[request.param]


def test_the_names_are_those_of_the_command():
    assert set(IMAGE_SCORERS) == set(PLACES)
    with pytest.raises(PrefmillError, match="no image scorer 'clop'") as caught:
        load_image_scorer("clop")
    assert "clip" in caught.value.fix
    with pytest.raises(PrefmillError, match="no published folder") as caught:
        load_image_scorer("aesthetic")
    assert "--model aesthetic=" in caught.value.fix


def test_clip_equals_the_librarys_processor_and_model(scorers, engine_checkpoints):
    scorer = scorers["clip"]
    processor = CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    pixels = processor(images=PICTURES, return_tensors="pt")["pixel_values"]
    # 300 x 70 leaves an odd margin after the resize, which the library crops one row higher than torchvision.
    same = [0, 1, 3]
    torch.testing.assert_close(scorer.preprocess(PICTURES)[same], pixels[same], atol=1e-6, rtol=0)
    model = CLIPModel.from_pretrained(engine_checkpoints["clip"]).eval()
    text = scorer.tokenizer(PROMPTS, padding="max_length", max_length=77, return_tensors="pt")
    with torch.no_grad():
        output = model(pixel_values=scorer.preprocess(PICTURES), **text)
    expected = output.logits_per_image.diagonal() / model.logit_scale.exp()
    found = scorer.score(scorer.preprocess(PICTURES), PROMPTS).values
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert found.abs().max() <= 1


def test_clip_reads_a_prompt_once(scorers):
    scorer = scorers["clip"]
    seen = []
    hook = scorer.model.text_model.register_forward_hook(
        lambda module, arguments, keywords, output: seen.append(len(keywords["input_ids"])), with_kwargs=True
    )
    prompts = ["the first of two", "the second of two", "the first of two", "the first of two"]
    once = scorer.score(scorer.preprocess(PICTURES), prompts)
    again = scorer.score(scorer.preprocess(PICTURES), prompts)
    hook.remove()
    assert seen == [2]
    assert torch.equal(once.values, again.values)


def test_blip_equals_the_librarys_processor_and_model(scorers, engine_checkpoints):
    scorer = scorers["blip"]
    processor = BlipImageProcessorPil(size={"height": 64, "width": 64})
    pixels = processor(images=PICTURES, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(scorer.preprocess(PICTURES), pixels, atol=1e-6, rtol=0)
    model = BlipForImageTextRetrieval.from_pretrained(engine_checkpoints["blip"]).eval()
    text = scorer.tokenizer(PROMPTS, padding="max_length", max_length=35, return_tensors="pt")
    with torch.no_grad():
        logits = model(
            input_ids=text["input_ids"], attention_mask=text["attention_mask"], pixel_values=pixels, use_itm_head=True
        ).itm_score
    found = scorer.score(pixels, PROMPTS).values
    torch.testing.assert_close(found, logits[:, 1] - logits[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.sigmoid(found), logits.softmax(-1)[:, 1], atol=1e-5, rtol=0)


def test_a_row_does_not_depend_on_its_batch(scorer):
    pixels = scorer.preprocess(PICTURES)
    batch = scorer.score(pixels, PROMPTS).values
    assert batch.std() > 1e-3
    for row, prompt in enumerate(PROMPTS):
        assert abs(scorer.score(pixels[row : row + 1], [prompt]).values.item() - batch[row].item()) < 1e-5


def test_a_prompt_that_is_too_long_is_flagged(scorers):
    long = "cat " * 400
    for name, scorer in scorers.items():
        found = scorer.score(scorer.preprocess(PICTURES[:2]), [long, "cat"])
        assert found.truncated == [name != "aesthetic", False]


def test_decoded_tensors_are_images_too(scorer):
    arrays = np.random.default_rng(5).integers(0, 256, (2, 3, 80, 96), dtype=np.uint8)
    expected = scorer.preprocess([Image.fromarray(array.transpose(1, 2, 0)) for array in arrays])
    whole = torch.from_numpy(arrays)
    assert torch.equal(scorer.preprocess(whole), expected)
    assert torch.equal(scorer.preprocess(whole / 127.5 - 1), expected)


@pytest.mark.parametrize("size", [(64, 64), (100, 64), (70, 300), (511, 512)])
def test_the_device_prepares_the_same_bits_as_pillow(size):
    inputs = ImagePreprocessing(64)
    array = np.asarray(picture(*size, seed=1))
    decoded = torch.from_numpy(array.transpose(2, 0, 1).copy())[None]
    assert torch.equal(prepare_pixels(decoded, [inputs.target])[0], inputs.pixels([Image.fromarray(array)]))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(2, 1, 8, 8), "must be"),
        (torch.zeros(3, 8, 8), "must be"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "uint8 or floating"),
    ],
)
def test_tensors_that_are_no_images(tensor, message):
    with pytest.raises(PrefmillError, match=message):
        to_pictures(tensor)


def test_pixels_that_cannot_be_scored(scorer):
    pixels = scorer.preprocess(PICTURES)
    broken = pixels.clone()
    broken[2, 0, 0, 0] = float("nan")
    scores, expected = scorer.score(broken, PROMPTS).values, scorer.score(pixels, PROMPTS).values
    assert scores.isnan().tolist() == [False, False, True, False]
    assert torch.equal(scores[[0, 1, 3]], expected[[0, 1, 3]])
    with pytest.raises(PrefmillError, match="call preprocess first"):
        scorer.score(pixels[..., :-1], PROMPTS)
    with pytest.raises(PrefmillError, match="4 images came with 1 prompts"):
        scorer.score(pixels, ["a cat"])
    assert scorer.score(pixels[:0], []).truncated == []


def test_decoded_images_that_are_not_finite_score_nan_and_rank_last(scorer, monkeypatch):
    decoded = torch.rand(3, 3, 40, 50, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = scorer.score(scorer.preprocess(decoded), PROMPTS[:3]).values
    decoded[0, 1, 2, 3] = float("inf")
    found = scorer.score(scorer.preprocess(decoded), PROMPTS[:3]).values
    assert found.isnan().tolist() == [True, False, False]
    assert torch.equal(found[1:], expected[1:])
    monkeypatch.setattr(scorer, "preprocess", lambda images: type(scorer).preprocess(scorer, decoded))
    assert scorer.rank("a cat", PICTURES[:3]).ranks[0] == 3


def test_execution_is_what_runs(scorer):
    assert scorer.execution == Execution("eager", "float32", "cpu")


def test_an_image_of_one_colour_has_a_score(scorer):
    flat = scorer.preprocess([Image.new("RGB", (64, 64), "grey")])
    assert scorer.score(flat, [""]).values.isfinite().all()


def test_ranking_puts_the_best_first_and_keeps_the_order_of_equals(scorer, tmp_path):
    path = tmp_path / "second.png"
    PICTURES[1].save(path)
    ranking = scorer.rank("a red cat", [PICTURES[0], path, PICTURES[2], PICTURES[0]])
    expected = sorted(range(4), key=lambda row: (-ranking.scores[row], row))
    assert [expected.index(row) + 1 for row in range(4)] == ranking.ranks
    assert ranking.ranks[3] == ranking.ranks[0] + 1
    assert ranking.scores[1] == pytest.approx(scorer.rank("a red cat", [PICTURES[1]]).scores[0], abs=1e-5)
    assert scorer.rank("a red cat", []).ranks == []


def test_the_drop_in_returns_what_the_package_returns(scorer):
    ranks, rewards = scorer.inference_rank("a red cat", PICTURES)
    assert sorted(ranks) == [1, 2, 3, 4]
    assert len(rewards) == 4
    rank, reward = scorer.inference_rank("a red cat", PICTURES[:1])
    assert rank == 1
    assert reward == pytest.approx(rewards[0], abs=1e-5)
    with pytest.raises(PrefmillError, match="cannot be read"):
        scorer.inference_rank("a red cat", ["nowhere.png"])


def test_the_processors_mean_and_deviation_count(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}')
    white = Image.new("RGB", (8, 8), "white")
    assert torch.equal(ImagePreprocessing.of_folder(tmp_path, 4).pixels([white]), torch.ones(1, 3, 4, 4))
    (tmp_path / "processor_config.json").write_text('{"image_processor": {"image_mean": [0.5, 0.5, 0.5]}}')
    (tmp_path / "preprocessor_config.json").unlink()
    assert ImagePreprocessing.of_folder(tmp_path, 4).mean == (0.5, 0.5, 0.5)
    for broken in ('{"image_mean": 3}', '{"image_mean": [1, 2]}', '{"image_std": ["a", 1, 1]}', "{"):
        (tmp_path / "processor_config.json").write_text(broken)
        with pytest.raises(PrefmillError):
            ImagePreprocessing.of_folder(tmp_path, 4)
