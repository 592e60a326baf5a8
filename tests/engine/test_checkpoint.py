import json
import shutil

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.checkpoint import check_weight_files, checkpoint_key, load_strict, read_config
from prefmill.engine.responders.transformers import TransformersResponder
from prefmill.engine.responders.transformers_text import TransformersTextResponder
from prefmill.engine.scorers.aesthetic import AestheticScorer
from prefmill.engine.scorers.blip import BlipScorer
from prefmill.engine.scorers.clip import ClipScorer
from prefmill.engine.scorers.image_reward import ImageRewardScorer
from prefmill.engine.scorers.text_reward import TextReward
from prefmill.engine.sd3.text_to_image import TextToImage
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

ENGINES = {
    "text-to-image/transformer": TextToImage,
    "text-to-image/vae": TextToImage,
    "text-to-image/text_encoder": TextToImage,
    "text-to-image/text_encoder_3": TextToImage,
    "image-reward": ImageRewardScorer,
    "clip": ClipScorer,
    "blip": BlipScorer,
    "aesthetic": AestheticScorer,
    "responder-a": TransformersResponder,
    "text-reward": TextReward,
    "text-model": TransformersTextResponder,
}


def weight_file(folder):
    return next(path for path in folder.glob("*.safetensors") if path.name != "aesthetic.safetensors")


def edit_weights(folder, edit):
    state = load_file(weight_file(folder))
    edit(state)
    save_file(state, weight_file(folder), metadata={"format": "pt"})


def some_matrix(state):
    return sorted(key for key, value in state.items() if value.ndim == 2)[2]


def a_key_is_missing(folder):
    state = load_file(weight_file(folder))
    key = some_matrix(state)
    edit_weights(folder, lambda state: state.pop(key))
    return f"missing: .*{key.rsplit('.', 2)[-2]}"


def a_key_is_foreign(folder):
    edit_weights(folder, lambda state: state.update({"foreign.weight": torch.zeros(2)}))
    return "unexpected: foreign.weight"


def a_shape_is_wrong(folder):
    def widen(state):
        key = some_matrix(state)
        state[key] = torch.zeros(state[key].shape[0] + 1, state[key].shape[1])

    edit_weights(folder, widen)
    return r"wrong shape: .* is \[\d+, \d+\], not \[\d+, \d+\]"


def the_config_is_missing(folder):
    (folder / "config.json").unlink()
    return "no config.json"


def the_config_is_broken(folder):
    (folder / "config.json").write_text('{"model_type": ')
    return "not valid JSON"


def the_weights_are_missing(folder):
    weight_file(folder).unlink()
    return "no .safetensors weight file|no file named model.safetensors"  # a head may be left


def the_weights_are_cut(folder):
    data = weight_file(folder).read_bytes()
    weight_file(folder).write_bytes(data[: len(data) // 2])
    return "truncated"


def the_weights_are_zero_bytes(folder):
    weight_file(folder).write_bytes(b"")
    return "truncated"


def the_architecture_is_another(folder):
    config = json.loads((folder / "config.json").read_text())
    config["_class_name" if "_class_name" in config else "model_type"] = "resnet"
    (folder / "config.json").write_text(json.dumps(config))
    return "resnet|Unrecognized configuration|ResNet"


BREAKS = (
    a_key_is_missing,
    a_key_is_foreign,
    a_shape_is_wrong,
    the_config_is_missing,
    the_config_is_broken,
    the_weights_are_missing,
    the_weights_are_cut,
    the_weights_are_zero_bytes,
    the_architecture_is_another,
)


@pytest.mark.parametrize("break_it", BREAKS, ids=lambda break_it: break_it.__name__)
@pytest.mark.parametrize("place", ENGINES)
def test_a_broken_folder_is_named_with_its_fault(engine_checkpoints, tmp_path, place, break_it, capfd):
    name, _, component = place.partition("/")
    folder = tmp_path / "model"
    shutil.copytree(engine_checkpoints[name], folder)
    message = break_it(folder / component)
    with pytest.raises(PrefmillError, match=message) as caught:
        ENGINES[place].from_pretrained(str(folder))
    assert str(folder / component) in caught.value.message
    assert caught.value.fix
    assert "newly initialized" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "name", ["text-to-image", "image-reward", "clip", "blip", "responder-a", "text-reward", "text-model"]
)
def test_the_tokenizer_may_not_be_missing(engine_checkpoints, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(engine_checkpoints[name], folder)
    for path in [*folder.rglob("tokenizer*.json"), *folder.rglob("vocab*"), *folder.rglob("processor_config.json")]:
        path.unlink()
    kind = next(engine for place, engine in ENGINES.items() if place.startswith(name))
    with pytest.raises(PrefmillError, match=r"tokenizer|processor"):
        kind.from_pretrained(str(folder))


def test_tied_weights_are_not_missing(tmp_path):
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(weight_file(tmp_path))
    model = load_strict(LlamaForCausalLM, tmp_path)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not model.training


def test_stored_position_buffers_are_no_foreign_keys(engine_checkpoints, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(engine_checkpoints["image-reward"], folder)
    edit_weights(folder, lambda state: state.update({"text_model.embeddings.position_ids": torch.arange(64)[None]}))
    ImageRewardScorer.from_pretrained(str(folder))


def test_shards_load_and_a_missing_shard_is_named(engine_checkpoints, tmp_path):
    whole = TextReward.from_pretrained(str(engine_checkpoints["text-reward"]))
    folder = tmp_path / "sharded"
    shutil.copytree(engine_checkpoints["text-reward"], folder)
    weight_file(folder).unlink()
    whole.model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    shards = TextReward.from_pretrained(str(folder))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, shards.model.state_dict()[name])
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(PrefmillError, match=shard.name):
        TextReward.from_pretrained(str(folder))


def test_the_key_is_of_the_content_and_not_of_the_place(engine_checkpoints, tmp_path):
    source = engine_checkpoints["text-reward"]
    key = checkpoint_key(source)
    moved = tmp_path / "elsewhere"
    shutil.copytree(source, moved)
    (moved / "README.md").write_text("notes are no weights")
    (moved / ".cache").mkdir()
    (moved / ".cache" / "state.json").write_text("{}")
    assert checkpoint_key(moved) == key
    assert key.startswith("llama@")
    assert checkpoint_key(moved, "judge") == f"judge@{key.split('@')[1]}"
    edit_weights(moved, lambda state: state["gating.logit_scale"].add_(1e-6))
    assert checkpoint_key(moved) != key
    with pytest.raises(PrefmillError, match="no model files"):
        checkpoint_key(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "weight_map",
    ["[1]", '"x"', "null", '{"a": 1}', '{"a": "../other.safetensors"}', '{"a": "/etc/passwd"}', '{"a": "a\\u0000b"}'],
)
def test_an_index_that_names_no_files_of_its_folder(tmp_path, weight_map):
    (tmp_path / "model.safetensors.index.json").write_text(f'{{"weight_map": {weight_map}}}')
    with pytest.raises(PrefmillError, match="which is no file name of its folder"):
        check_weight_files(tmp_path)


def test_a_config_nested_beyond_reason(tmp_path):
    (tmp_path / "config.json").write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(PrefmillError, match="not valid JSON"):
        read_config(tmp_path)
