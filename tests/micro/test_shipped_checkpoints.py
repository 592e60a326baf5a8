"""The checkpoints that come with the package: small, whole, loadable by the stock libraries, and as good as stated."""

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from prefmill.micro.checkpoints import RECIPES, SHIPPED, read_manifest, verify
from prefmill.micro.world.candidates import open_generator
from prefmill.micro.world.language import caption
from prefmill.micro.world.oracle import judge
from prefmill.micro.world.scenes import sample_scenes

QUALITY = {name: entry["quality"] for name, entry in read_manifest()["checkpoints"].items()}


def test_all_are_there_and_small():
    assert set(QUALITY) == set(RECIPES)
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 30e6
    assert max(path.stat().st_size for path in files) < 16e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ".txt"}, "nothing that can hold code"


@pytest.mark.parametrize("name", QUALITY)
def test_files_and_measured_quality_are_those_of_the_manifest(name):
    [check] = verify(names=[name], quick=True)
    assert check.differences == []
    assert check.measured


def test_the_generator_is_a_stable_diffusion_3_to_the_library_itself():
    """Stock diffusers, as any user would load it, draws what our engine draws; and mostly what was asked."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        SHIPPED / "text-to-image",
        text_encoder_3=None,
        tokenizer_3=None,
        image_encoder=None,
        feature_extractor=None,
        torch_dtype=torch.float32,
    )
    pipeline.set_progress_bar_config(disable=True)
    scenes = sample_scenes("dev", 12, 3)
    prompts = [caption(scene) for scene in scenes]
    noise = torch.randn(12, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    # the pipeline pads with empty T5 tokens, which the micro model was trained to ignore
    stock = pipeline(
        prompt=prompts,
        guidance_scale=5.0,
        num_inference_steps=16,
        latents=noise,  # type: ignore[arg-type]  # the stub wants a FloatTensor
        height=32,
        width=32,
        output_type="np",
        max_sequence_length=24,
    )
    drawn = (np.asarray(stock[0]) * 255).round().astype(np.uint8)
    assert np.mean([verdict.exact for verdict in judge(drawn, scenes)]) >= 0.5
    own = open_generator(SHIPPED / "text-to-image")
    ours = own.generate(prompts, [5.0] * 12, list(range(12)), steps=16, width=32, height=32).images.cpu().numpy()
    assert np.mean([verdict.exact for verdict in judge(ours, scenes)]) >= 0.5


def test_the_world_has_something_to_select_and_something_to_mend():
    """The loop needs a generator between chance and certainty, a reward that picks, a policy that hallucinates."""
    generator, reward, policy = QUALITY["text-to-image"], QUALITY["image-reward"], QUALITY["policy"]
    shares = [generator[f"test_exact_at_{scale}"] for scale in (5, 7, 9, 11)]
    assert 0.5 < shares[0] < 0.85
    assert sorted(shares, reverse=True) == shares, "worse at higher guidance, in so few steps"
    assert reward["test_picked"] - reward["test_best_fixed"] >= 0.04
    assert reward["test_minus_clip"] > 0.02
    assert reward["test_picked"] - reward["test_random"] >= 0.06
    assert reward["test_picked_minus_random_t"] >= 4
    assert 0.15 < policy["chair_s"] < 0.4
    assert policy["object_recall"] > 0.95
    assert QUALITY["text-reward"]["pair_accuracy"] > 0.95
    weak, others = QUALITY["responder-d"], [QUALITY[f"responder-{letter}"] for letter in "abc"]
    assert weak["pope_accuracy"] < min(other["pope_accuracy"] for other in others) - 0.1
