"""A merged checkpoint: the base's own files, and the logits of base and adapter."""

import json
import shutil
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from prefmill.base.errors import PrefmillError
from prefmill.cli.merge import merge_command
from prefmill.engine.checkpoint import checkpoint_key
from prefmill.train.adapter import lora_targets
from prefmill.train.merge import merge
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor


@pytest.fixture(scope="module")
def finished(model_folder, finish, tmp_path_factory):
    """A finished training as its files say, with an adapter on all linear layers that is not zero."""
    output = tmp_path_factory.mktemp("merge") / "output"
    model = AutoModelForImageTextToText.from_pretrained(model_folder)
    torch.manual_seed(0)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=lora_targets(model), init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(output / "adapter", save_embedding_layers=False)
    finish(output, checkpoint_key(model_folder))
    return output


def tensors(folder):
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def loaded_with_report(folder):
    loading: Any = AutoModelForImageTextToText  # whose stub does not know that there may be two results
    return loading.from_pretrained(folder, output_loading_info=True)


def logits(model):
    torch.manual_seed(1)
    inputs = {"input_ids": torch.randint(5, 900, (2, 30))}
    with torch.no_grad():
        return model.eval()(**inputs).logits


def test_files_are_the_bases_and_logits_those_of_base_and_adapter(finished, model_folder, tmp_path):
    merge(finished, tmp_path / "merged")
    before, after = tensors(model_folder), tensors(tmp_path / "merged")
    # what today's transformers leaves out of the CLIP tower's names when it saves, and vLLM wants
    before = {name.replace("vision_tower.", "vision_tower.vision_model."): one for name, one in before.items()}
    assert {name: weight.shape for name, weight in before.items()} == {
        name: weight.shape for name, weight in after.items()
    }
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) == 14
    assert all(name.startswith("language_model.model.layers.") for name in changed)
    base = AutoModelForImageTextToText.from_pretrained(model_folder)
    alone = logits(base)
    together = logits(PeftModel.from_pretrained(base, finished / "adapter"))
    loaded, report = loaded_with_report(tmp_path / "merged")
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    merged = logits(loaded)
    assert (merged - together).norm() / together.norm() < 1e-5
    assert (alone - together).norm() / together.norm() > 1e-2
    processor = AutoProcessor.from_pretrained(tmp_path / "merged")
    assert processor.chat_template == AutoProcessor.from_pretrained(model_folder).chat_template
    assert (tmp_path / "merged" / "generation_config.json").exists()
    assert not (tmp_path / "merged" / "RANDOM_WEIGHTS.md").exists()


def test_another_dtype_rounds_once(finished, tmp_path):
    merge(finished, tmp_path / "exact")
    merge(finished, tmp_path / "short", dtype="bfloat16")
    exact, short = tensors(tmp_path / "exact"), tensors(tmp_path / "short")
    assert all(torch.equal(short[name], exact[name].bfloat16()) for name in exact)
    assert json.loads((tmp_path / "short" / "config.json").read_text())["dtype"] == "bfloat16"
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "short").dtype == torch.bfloat16


def test_a_base_split_over_files_stays_split(finished, model_folder, tmp_path):
    model = AutoModelForImageTextToText.from_pretrained(model_folder)
    model.save_pretrained(tmp_path / "base", max_shard_size="300KB")
    output = tmp_path / "output"
    shutil.copytree(finished, output)
    manifest = json.loads((output / "manifest.json").read_text())
    manifest["base_model_key"] = checkpoint_key(tmp_path / "base")
    (output / "manifest.json").write_text(json.dumps(manifest))
    merge(output, tmp_path / "merged", base=str(tmp_path / "base"))
    files = sorted(path.name for path in (tmp_path / "base").glob("*.safetensors*"))
    assert len(files) > 2
    assert files == sorted(path.name for path in (tmp_path / "merged").glob("*.safetensors*"))
    merge(finished, tmp_path / "whole")
    loaded = [logits(AutoModelForImageTextToText.from_pretrained(tmp_path / name)) for name in ("merged", "whole")]
    assert torch.equal(*loaded)
    _, report = loaded_with_report(tmp_path / "merged")
    assert not report["missing_keys"]


def test_what_is_refused(finished, model_folder, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(PrefmillError, match="already there"):
        merge(finished, tmp_path / "there")
    with pytest.raises(PrefmillError, match="no finished training"):
        merge(tmp_path / "there", tmp_path / "merged")
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    with pytest.raises(PrefmillError, match="was trained on llava@"):
        merge(finished, tmp_path / "merged", base=str(other))
    damaged = tmp_path / "damaged"
    shutil.copytree(finished, damaged)
    content = bytearray((damaged / "adapter" / "adapter_model.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "adapter" / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(PrefmillError, match="is damaged"):
        merge(damaged, tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "other", "there"]


def test_the_command_prints_what_serves_it(finished, tmp_path, capsys):
    merge_command([finished], tmp_path / "merged", None, None, as_json=False)
    assert f"vllm serve {tmp_path / 'merged'}\n" in capsys.readouterr().out
