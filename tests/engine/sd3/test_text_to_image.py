# pyright: reportPrivateImportUsage=false

from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from prefmill.base.errors import PrefmillError
from prefmill.engine.device import EngineSettings
from prefmill.engine.sd3.text_to_image import TextToImage
from prefmill.engine.tiny.catalogue import build_text_to_image

PROMPTS = ["a red cat on a table", "two dogs near the sea", "a red cat on a table", ""]
GUIDANCE = [5.0, 7.0, 1.0, 11.0]
SEEDS = [11, 12, 13, 2**40 + 5]
SIZE: Any = {"steps": 6, "width": 64, "height": 48}


@pytest.fixture(scope="module")
def engine(engine_checkpoints):
    return TextToImage.from_pretrained(str(engine_checkpoints["text-to-image"]), EngineSettings(device="cpu"))


def stock_image(pipeline, prompt, guidance, seed):
    return pipeline(
        prompt=prompt,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(seed),
        num_inference_steps=SIZE["steps"],
        width=SIZE["width"],
        height=SIZE["height"],
        output_type="pt",
        return_dict=False,
    )[0][0]


def stock_pipeline(folder, with_t5=True):
    absent = {} if with_t5 else {"text_encoder_3": None, "tokenizer_3": None}
    stock = StableDiffusion3Pipeline.from_pretrained(folder, **absent)
    stock.set_progress_bar_config(disable=True)
    assert (stock.text_encoder_3 is not None) == with_t5
    return stock


@pytest.mark.parametrize("with_t5", [True, False])
def test_a_mixed_batch_equals_stock_pipeline_calls(tmp_path, with_t5):
    folder = build_text_to_image(tmp_path / "model", seed=3, with_t5=with_t5)
    engine = TextToImage.from_pretrained(str(folder), EngineSettings(device="cpu"))
    batch = engine.generate_float(PROMPTS, GUIDANCE, SEEDS, **SIZE)
    stock = stock_pipeline(folder, with_t5)
    for row, arguments in enumerate(zip(PROMPTS, GUIDANCE, SEEDS, strict=True)):
        assert (batch[row] - stock_image(stock, *arguments)).abs().max() < 1e-4


@pytest.mark.parametrize("scheduler", [{"shift": 3.0}, {"use_dynamic_shifting": True}], ids=["shift", "dynamic"])
@pytest.mark.parametrize("guidance", [7.0, 1.0], ids=["guided", "unguided"])
def test_a_batch_has_the_bits_of_the_stock_pipeline(tmp_path, guidance, scheduler):
    folder = build_text_to_image(tmp_path / "model", seed=3)
    FlowMatchEulerDiscreteScheduler(**scheduler).save_pretrained(folder / "scheduler")
    engine = TextToImage.from_pretrained(str(folder), EngineSettings(device="cpu"))
    ours = engine.generate_float(PROMPTS, [guidance] * 4, SEEDS, **SIZE)
    stock: Any = stock_pipeline(folder)
    with torch.no_grad():
        embeddings = [stock.encode_prompt(prompt, None, None, do_classifier_free_guidance=False) for prompt in PROMPTS]
        empty = stock.encode_prompt("", None, None, do_classifier_free_guidance=False)
        theirs = stock(
            prompt_embeds=torch.cat([row[0] for row in embeddings]),
            pooled_prompt_embeds=torch.cat([row[2] for row in embeddings]),
            negative_prompt_embeds=empty[0].expand(4, -1, -1),
            negative_pooled_prompt_embeds=empty[2].expand(4, -1),
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
            num_inference_steps=SIZE["steps"],
            width=SIZE["width"],
            height=SIZE["height"],
            output_type="pt",
            return_dict=False,
        )[0]
    assert torch.equal(ours, theirs)


def test_a_scheduler_that_the_loop_does_not_follow_is_refused(tmp_path):
    folder = build_text_to_image(tmp_path / "model")
    FlowMatchEulerDiscreteScheduler(stochastic_sampling=True).save_pretrained(folder / "scheduler")
    with pytest.raises(PrefmillError, match="stochastic_sampling"):
        TextToImage.from_pretrained(str(folder), EngineSettings(device="cpu"))


def test_a_row_does_not_depend_on_its_batch(engine):
    batch = engine.generate_float(PROMPTS, GUIDANCE, SEEDS, **SIZE)
    assert batch.shape == (4, 3, 48, 64)
    for row, (prompt, guidance, seed) in enumerate(zip(PROMPTS, GUIDANCE, SEEDS, strict=True)):
        single = engine.generate_float([prompt], [guidance], [seed], **SIZE)
        assert (batch[row] - single[0]).abs().max() < 1e-4


def test_seed_prompt_and_guidance_all_matter(engine):
    same, seed, prompt, guidance = engine.generate_float(
        ["a cat", "a cat", "a dog", "a cat"], [5.0, 5.0, 5.0, 9.0], [1, 2, 1, 1], **SIZE
    )
    for other in (seed, prompt, guidance):
        assert (same - other).abs().mean() > 1e-3


def test_guidance_below_one_is_none_as_in_the_stock_pipeline(engine):
    low, one = engine.generate_float(["a cat"] * 2, [0.0, 1.0], [4, 4], **SIZE)
    assert torch.equal(low, one)


def test_each_distinct_prompt_is_encoded_once_and_the_empty_one_once_per_pipeline(engine_checkpoints):
    engine = TextToImage.from_pretrained(str(engine_checkpoints["text-to-image"]), EngineSettings(device="cpu"))
    calls = []
    engine.text.clips[0].network.module.register_forward_hook(lambda *_: calls.append(1))
    engine.generate(["a cat", "a dog", "a cat"], [5.0] * 3, [1, 2, 3], **SIZE)
    assert len(calls) == 3  # two prompts and the empty one
    engine.generate(["a cat", "a tree"], [5.0] * 2, [1, 2], **SIZE)
    assert len(calls) == 4  # one of the two is still known


def test_random_checkpoints_draw_pictures(engine):
    generated = engine.generate(PROMPTS, GUIDANCE, SEEDS, **SIZE)
    assert generated.images.shape == (4, 48, 64, 3)
    assert generated.images.dtype == torch.uint8
    assert generated.failures == [None] * 4
    assert generated.images.float().std() > 10


def test_sizes(engine):
    assert engine.default_size == 64
    assert engine.size_step == 16
    for width, height in ((60, 64), (64, 0), (64, -16), (64, 512)):
        with pytest.raises(PrefmillError, match="multiple of 16 up to 256"):
            engine.generate(["a cat"], [5.0], [1], steps=1, width=width, height=height)


@pytest.mark.parametrize(
    ("prompts", "guidance", "seeds", "steps", "message"),
    [
        (["a"], [5.0, 7.0], [1], 2, "1 prompts came with 2"),
        (["a"], [5.0], [], 2, "0 seeds"),
        ([], [], [], 2, "0 prompts"),
        (["a"], [float("nan")], [1], 2, "nan"),
        (["a"], [5.0], [1], 0, "0 denoising steps"),
    ],
)
def test_arguments_that_do_not_fit(engine, prompts, guidance, seeds, steps, message):
    with pytest.raises(PrefmillError, match=message):
        engine.generate(prompts, guidance, seeds, steps=steps, width=64, height=64)


def test_an_overflowing_network_is_reported(engine_checkpoints):
    engine = TextToImage.from_pretrained(str(engine_checkpoints["text-to-image"]), EngineSettings(device="cpu"))
    with torch.no_grad():
        engine.steps.guided.network.module.get_parameter("proj_out.weight")[0, 0] = float("nan")
    generated = engine.generate(["a cat", "a dog"], [5.0, 7.0], [1, 2], **SIZE)
    assert generated.failures == ["nan", "nan"]
    assert not generated.images.any()


def test_a_folder_of_another_pipeline(engine_checkpoints, tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(PrefmillError, match="FluxPipeline"):
        TextToImage.from_pretrained(str(tmp_path))
    with pytest.raises(PrefmillError, match="no model_index"):
        TextToImage.from_pretrained(str(engine_checkpoints["policy"]))


def test_a_component_that_is_missing(tmp_path):
    folder = build_text_to_image(tmp_path / "model")
    (folder / "text_encoder_3").rename(tmp_path / "away")
    with pytest.raises(PrefmillError, match="text_encoder_3 does not exist"):
        TextToImage.from_pretrained(str(folder))


def test_bfloat16_draws_too(engine_checkpoints):
    settings = EngineSettings(device="cpu", dtype="bfloat16")
    engine = TextToImage.from_pretrained(str(engine_checkpoints["text-to-image"]), settings)
    assert engine.generate(["a cat"], [5.0], [1], **SIZE).failures == [None]


def test_a_pipeline_without_t5_can_leave_its_empty_tokens_out(engine_checkpoints, tmp_path):
    """The stock pipeline puts 256 empty tokens in place of an absent T5; 0 leaves just CLIP's."""
    folder = build_text_to_image(tmp_path / "bare", with_t5=False)
    lengths = [
        TextToImage.from_pretrained(str(folder), EngineSettings(device="cpu"), t5_tokens=length)
        .encode("a kite")
        .tokens.shape[1]
        for length in (0, 256)
    ]
    assert lengths[1] - lengths[0] == 256
    with pytest.raises(PrefmillError, match="has a T5"):
        TextToImage.from_pretrained(str(engine_checkpoints["text-to-image"]), EngineSettings(device="cpu"), t5_tokens=0)
