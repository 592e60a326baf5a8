"""A checkpoint as vLLM loads it: weights under the names it knows, an adapter merged in."""

import torch
from prefmill.engine.checkpoint import checkpoint_key
from prefmill.engine.responders.vllm.servable import servable
from safetensors import safe_open


def test_a_checkpoint_gets_the_names_that_vllm_knows(engine_checkpoints, cache):
    source = engine_checkpoints["responder-a"]
    folder, key = servable(source, None, torch.float32)
    assert folder.parent == cache / "vllm"
    assert key == checkpoint_key(source)
    with safe_open(source / "model.safetensors", "pt") as old, safe_open(folder / "model.safetensors", "pt") as new:
        names = {name: name.replace("vision_tower.", "vision_tower.vision_model.") for name in old.keys()}  # noqa: SIM118
        assert set(new.keys()) == set(names.values())
        assert any("vision_model" in name for name in names.values())
        assert all(torch.equal(old.get_tensor(one), new.get_tensor(other)) for one, other in names.items())
    assert {path.name for path in source.iterdir()} - {path.name for path in folder.iterdir()} == {"RANDOM_WEIGHTS.md"}
    assert servable(folder, None, torch.float32)[0] == folder  # nothing to do there


def test_an_adapter_is_merged_into_the_copy(engine_checkpoints, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    source = engine_checkpoints["responder-a"]
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=r".*language_model.*q_proj", init_lora_weights=False)
    adapted = get_peft_model(AutoModelForImageTextToText.from_pretrained(source), config)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    folder, key = servable(source, tmp_path / "adapter", torch.float32)
    assert key == f"{checkpoint_key(source)}+{checkpoint_key(tmp_path / 'adapter', 'adapter')}"
    merged = adapted.merge_and_unload().state_dict()  # type: ignore[operator]
    loaded = AutoModelForImageTextToText.from_pretrained(folder).state_dict()
    plain = AutoModelForImageTextToText.from_pretrained(source).state_dict()
    assert all(torch.equal(loaded[name], merged[name]) for name in merged)
    assert sum(not torch.equal(loaded[name], plain[name]) for name in merged) == 2  # a layer's each
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert not any("vision_tower.encoder" in name for name in file.keys())  # noqa: SIM118
