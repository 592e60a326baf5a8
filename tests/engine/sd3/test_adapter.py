"""A LoRA of the transformer, merged into a generator."""

import shutil

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.checkpoint import checkpoint_key
from prefmill.engine.device import EngineSettings
from prefmill.engine.sd3.text_to_image import TextToImage
from prefmill.pipeline.stages.generate import GenerateConfig, GenerateStage
from safetensors.torch import load_file, save_file

SETTINGS = EngineSettings(device="cpu")
NAME = "transformer_blocks.0.attn.to_q"
STORED = f"base_model.model.{NAME}"


@pytest.fixture
def base(engine_checkpoints):
    return engine_checkpoints["text-to-image"]


@pytest.fixture
def adapter(base, lora_of, tmp_path):
    return lora_of(base / "transformer", tmp_path / "adapter")


def load(base, **options):
    return TextToImage.from_pretrained(str(base), SETTINGS, **options)


def weights(engine):
    return engine.steps.guided.network.module.state_dict()


def test_every_tuned_weight_is_base_and_difference_and_the_key_names_both(base, adapter):
    plain, tuned = load(base), load(base, adapter=adapter)
    assert tuned.key == f"{checkpoint_key(base)}+{checkpoint_key(adapter, 'adapter')}"
    before, after, stored = weights(plain), weights(tuned), load_file(adapter / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    difference = stored[f"{STORED}.lora_B.weight"] @ stored[f"{STORED}.lora_A.weight"] * 4 / 2  # alpha / rank
    torch.testing.assert_close(after[f"{NAME}.weight"], before[f"{NAME}.weight"] + difference)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        f"{name.removeprefix('base_model.model.').removesuffix('.lora_A.weight')}.weight"
        for name in stored
        if name.endswith("lora_A.weight")
    }
    one, other = (
        engine.generate_float(["a kite"], [5.0], [1], steps=2, width=64, height=64) for engine in (plain, tuned)
    )
    assert not torch.equal(one, other)


def test_the_stage_takes_it_by_its_setting(base, adapter):
    config = GenerateConfig(model=str(base), adapter=str(adapter), width=64, height=64)
    assert GenerateStage(config, SETTINGS).model_keys == (load(base, adapter=adapter).key,)


def _without_one(tensors):
    del tensors[f"{STORED}.lora_A.weight"]


def _with_another(tensors):
    tensors["base_model.model.transformer_blocks.9.attn.to_q.lora_A.weight"] = torch.zeros(2, 64)


def _of_another_width(tensors):
    tensors[f"{STORED}.lora_A.weight"] = torch.zeros(2, 32)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without_one, rf"does not fit the model: it lacks {STORED}\.lora_A\.weight"),
        (_with_another, r"does not fit the model: there is no place for .*transformer_blocks\.9"),
        (_of_another_width, r"does not fit the model: .*size mismatch"),
    ],
)
def test_an_adapter_that_does_not_fit(base, adapter, tmp_path, change, said):
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(PrefmillError, match=said):
        load(base, adapter=adapter)


def test_a_folder_without_an_adapter(base, tmp_path):
    shutil.copy(base / "model_index.json", tmp_path)
    with pytest.raises(PrefmillError, match=r"holds no adapter: there is no adapter_config\.json"):
        load(base, adapter=tmp_path)
