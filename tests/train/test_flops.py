"""The FLOP model against torch's own counter, the shapes against the real classes, and ratios worked out by hand."""

import json

import pytest
import torch
from peft import get_peft_model
from prefmill.base.errors import PrefmillError
from prefmill.train.accelerators import accelerator_named, accelerator_of
from prefmill.train.adapter import lora_config, lora_targets
from prefmill.train.flops import LADDER, PairLengths, image_flops, needed_flops, training_flops
from prefmill.train.settings import DPOTrainingConfig
from prefmill.train.shape import shape_of, shape_of_folder
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageTextToText, LlavaConfig

PAIRS = [PairLengths(40, 20, 12, "a", 16), PairLengths(44, 9, 30, "b", 16), PairLengths(40, 25, 8, "a", 16)]


@pytest.fixture(scope="module")
def model(model_folder):
    # of torch's attention functions the counter knows those of a GPU alone; eager attention is products
    return AutoModelForImageTextToText.from_pretrained(model_folder, attn_implementation="eager")


def counted(function):
    with FlopCounterMode(display=False) as counter:
        result = function()
    return counter.get_total_flops(), result


def test_parameters_are_those_of_the_real_class(model, model_folder):
    shape = shape_of_folder(model_folder)
    assert shape == shape_of(model)
    assert shape.parameters == sum(weight.numel() for weight in model.parameters())
    adapted = get_peft_model(
        model.__class__(model.config), lora_config(DPOTrainingConfig(lora_rank=4), lora_targets(model))
    )
    assert 4 * shape.adapter_weights == adapted.get_nb_trainable_parameters()[0]


def test_a_7b_model_from_its_config_alone(model_folder, tmp_path):
    config = LlavaConfig(text_config={"model_type": "llama", "vocab_size": 32064}).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = shape_of_folder(tmp_path)
    assert shape.parameters == 7_063_427_072  # as the hub counts llava-hf/llava-1.5-7b-hf
    assert 128 * shape.adapter_weights == 319_815_680  # 32 layers x 128 x (4 x 8192 + 3 x 15104)


def test_an_image(model, model_folder):
    pixels = torch.zeros(1, 3, 56, 56)
    flops, _ = counted(lambda: model.get_image_features(pixel_values=pixels))
    assert image_flops(shape_of_folder(model_folder), PairLengths(0, 0, 0, "a", 16)) == pytest.approx(flops, rel=0.03)


def test_a_step_of_two_rows_per_pair(model, model_folder):
    """Policy and reference; the counter sees the whole square of the attention, and one head's product less."""
    shape = shape_of_folder(model_folder)
    adapted = get_peft_model(
        AutoModelForImageTextToText.from_pretrained(model_folder, attn_implementation="eager"),
        lora_config(DPOTrainingConfig(lora_rank=4, lora_alpha=8), lora_targets(model)),
    )
    adapted.enable_input_require_grads()
    ids = torch.randint(5, 900, (2, 60))
    policy, out = counted(lambda: adapted(input_ids=ids).logits.sum())  # noqa: PLW0108
    policy += counted(out.backward)[0]
    with torch.no_grad(), adapted.disable_adapter():
        reference, _ = counted(lambda: adapted(input_ids=ids))
    predicted = training_flops(shape, [PairLengths(40, 20, 20)], LADDER["trl"], rank=4)
    square = 4 * shape.layers * shape.query_width * 60 * 60  # half of two rows' attention
    again = 2 * shape.head_weights * 120  # TRL makes the logits a second time
    assert predicted.policy + 3 * square - again == pytest.approx(policy, rel=0.01)
    assert predicted.reference + square == pytest.approx(reference, rel=0.01)


def test_checkpointing_repeats_the_forward_pass_and_no_head(model_folder):
    shape = shape_of_folder(model_folder)
    plain, again = (
        training_flops(shape, PAIRS[:1], LADDER["shared"], rank=4, checkpointing=checkpointing).policy
        for checkpointing in (False, True)
    )
    seen = 60**2 / 2 + 12 * (40 + 6)
    forward = 2 * 72 * (shape.layer_weights + 4 * shape.adapter_weights) + 4 * 2 * 64 * seen
    assert again - plain == pytest.approx(forward)


def test_every_rung_saves_and_caches_pay_over_epochs(model_folder):
    shape = shape_of_folder(model_folder)
    totals = [training_flops(shape, PAIRS, rung, rank=4, batch_size=3, epochs=2).total for rung in LADDER.values()]
    assert totals == sorted(totals, reverse=True)
    once = training_flops(shape, PAIRS, LADDER["shared"], rank=4)
    twice = training_flops(shape, PAIRS, LADDER["shared"], rank=4, epochs=2)
    assert twice.policy == 2 * once.policy == 2 * needed_flops(shape, PAIRS, 4)
    assert (twice.reference, twice.vision) == (once.reference, once.vision)
    assert once.vision == pytest.approx(2 * image_flops(shape, PAIRS[0]))  # two images for three pairs
    trl = training_flops(shape, PAIRS, LADDER["trl"], rank=4)
    assert trl.vision == pytest.approx(12 * image_flops(shape, PAIRS[0]))


def test_accelerators_by_both_names():
    for said, name in (
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
    ):
        assert accelerator_of(said) == accelerator_named(name)
    assert accelerator_of("Tesla T4") is None
    with pytest.raises(PrefmillError, match="no GPU 'abacus'"):
        accelerator_named("abacus")
