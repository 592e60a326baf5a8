import pytest
from prefmill.base.errors import PrefmillError
from prefmill.engine.checkpoint import checkpoint_key
from prefmill.engine.responders.transformers import TransformersResponder
from prefmill.engine.responders.transformers_text import TransformersTextResponder
from prefmill.engine.scorers.aesthetic import AestheticScorer
from prefmill.engine.scorers.blip import BlipScorer
from prefmill.engine.scorers.clip import ClipScorer
from prefmill.engine.scorers.hpsv2 import HpsV2Scorer
from prefmill.engine.scorers.image_reward import ImageRewardScorer
from prefmill.engine.scorers.pickscore import PickScoreScorer
from prefmill.engine.scorers.text_reward import TextReward
from prefmill.engine.sd3.text_to_image import TextToImage
from prefmill.engine.settings import EngineSettings
from prefmill.engine.sources import resolve_checkpoint
from prefmill.engine.tiny import folder as folder_module
from prefmill.engine.tiny.catalogue import build_all, build_text_reward
from prefmill.engine.tiny.folder import MARKER
from prefmill.engine.tiny.tokenizers import bert_tokenizer, byte_tokenizer, clip_tokenizer, t5_tokenizer
from transformers import AutoTokenizer

TEXT = "The red cat, sitting NEAR a tree. Ünïcode 漢字 🎉\n\n  spaces  a  the x <image> [CLS] \\ \t end"
NAMES = {
    "text-to-image",
    "image-reward",
    "clip",
    "pickscore",
    "hpsv2",
    "blip",
    "aesthetic",
    "responder-a",
    "responder-b",
    "responder-c",
    "policy",
    "text-reward",
    "text-model",
}


def test_all_are_small_and_say_what_they_are(engine_checkpoints):
    assert set(engine_checkpoints) == NAMES
    for path in engine_checkpoints.values():
        assert sum(file.stat().st_size for file in path.rglob("*")) < 6_000_000
        assert "never trained" in (path / MARKER).read_text()


def test_every_name_loads_through_its_engine(engine_checkpoints):
    engines = {
        "text-to-image": TextToImage,
        "image-reward": ImageRewardScorer,
        "clip": ClipScorer,
        "pickscore": PickScoreScorer,
        "hpsv2": HpsV2Scorer,
        "blip": BlipScorer,
        "aesthetic": AestheticScorer,
        "text-reward": TextReward,
        "text-model": TransformersTextResponder,
    }
    for name, path in engine_checkpoints.items():
        loaded = engines.get(name, TransformersResponder).from_pretrained(str(path), EngineSettings(device="cpu"))
        assert checkpoint_key(path).split("@")[1] in loaded.key


def test_a_seed_gives_the_same_weights_anywhere(engine_checkpoints, tmp_path):
    again = build_all(tmp_path)
    keys = {name: checkpoint_key(path) for name, path in again.items()}
    assert keys == {name: checkpoint_key(path) for name, path in engine_checkpoints.items()}
    assert len(set(keys.values())) == len(keys)
    assert checkpoint_key(build_text_reward(tmp_path / "other", seed=1)) != keys["text-reward"]


def test_a_finished_folder_is_kept_and_an_old_one_is_built_anew(tmp_path, monkeypatch):
    path = build_text_reward(tmp_path / "model")
    (path / "witness").touch()
    assert build_text_reward(tmp_path / "model") == path
    assert (path / "witness").exists()
    monkeypatch.setattr(folder_module, "RECIPE", folder_module.RECIPE + 1)
    build_text_reward(tmp_path / "model")
    assert not (path / "witness").exists()
    build_text_reward(tmp_path / "model", seed=1)
    assert "seed: 1" in (path / MARKER).read_text()


def test_a_killed_build_leaves_nothing_that_looks_finished(tmp_path):
    class Killed(BaseException):
        pass

    def die_halfway(fresh):
        (fresh / "model.safetensors").write_bytes(b"half")
        raise Killed

    with pytest.raises(Killed):
        folder_module.build_once(tmp_path / "model", 0, "test", die_halfway)
    assert list(tmp_path.iterdir()) == []


def test_a_slower_builder_gives_way(tmp_path):
    def build(fresh):
        (fresh / "own").touch()
        folder_module.build_once(tmp_path / "model", 0, "test", lambda other: (other / "faster").touch())

    path = folder_module.build_once(tmp_path / "model", 0, "test", build)
    assert {file.name for file in path.iterdir()} == {"faster", MARKER}


def test_byte_tokenizers_lose_nothing(engine_checkpoints):
    for name in ("responder-a", "text-reward", "text-model"):
        tokenizer = AutoTokenizer.from_pretrained(engine_checkpoints[name])
        plain = TEXT.replace("<image>", "")
        tokens = tokenizer(plain)["input_ids"]
        assert tokens[0] == tokenizer.bos_token_id
        assert tokenizer.decode(tokens, skip_special_tokens=True) == plain


@pytest.mark.parametrize("make", [clip_tokenizer, t5_tokenizer, bert_tokenizer])
def test_encoder_tokenizers_know_the_words_and_survive_any_text(make, tmp_path):
    tokenizer = make()
    assert len(tokenizer("a red cat near the sea", add_special_tokens=False)["input_ids"]) == 6
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]
    assert max(tokenizer(TEXT)["input_ids"]) < len(tokenizer)


def test_words_are_single_tokens():
    tokenizer = byte_tokenizer(["<s>", "</s>"], bos="<s>", eos="</s>", pad="</s>")
    assert len(tokenizer(" a red cat near the sea", add_special_tokens=False)["input_ids"]) == 6


def test_random_sources_are_built_in_the_cache(tmp_path, monkeypatch, engine_checkpoints):
    monkeypatch.setenv("PREFMILL_CACHE", str(tmp_path))
    folder = resolve_checkpoint("random:text-reward")
    assert tmp_path in folder.parents
    assert checkpoint_key(folder) == checkpoint_key(engine_checkpoints["text-reward"])
    with pytest.raises(PrefmillError, match="'nothing'") as caught:
        resolve_checkpoint("random:nothing")
    assert "text-reward" in caught.value.fix
