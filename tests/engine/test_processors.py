"""Processors load without torchvision, for what needs no video; a tokenizer of another model is refused."""

import json
import shutil

import pytest
import transformers
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.engine.processors import check_tokenizer, control_tokens, load_processor
from prefmill.engine.responders.interface import Answer, Request
from prefmill.engine.responders.transformers import TransformersResponder
from prefmill.engine.settings import EngineSettings, Sampling
from prefmill.engine.tiny.vision_language_models import FAMILIES, build_vision_language_model
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

WIDE, HIGH = Image.new("RGB", (120, 56), "red"), Image.new("RGB", (56, 98), "blue")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return lambda family: build_vision_language_model(root / family, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_about_images(folder_of, family):
    """Through the engine: images of unequal shape at once and one by one, and several where the family takes them."""
    folder = folder_of(family)
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 2_000_000
    responder = TransformersResponder.from_pretrained(str(folder), EngineSettings(device="cpu"))
    check_tokenizer(responder.processor, folder)
    sampling, questions = Sampling(temperature=0, max_new_tokens=8), ["What is it?", "Which color?"]
    rows = zip((WIDE, HIGH), questions, (1, 2), strict=True)
    requests = [Request(question, seed, (image,)) for image, question, seed in rows]
    requests.append(Request("Which is it?", 3, (WIDE, HIGH)))
    together = responder.answer(requests, sampling)
    assert together == [responder.answer([request], sampling)[0] for request in requests]
    assert any(isinstance(answer, Answer) and answer.text for answer in together[:2])
    assert isinstance(together[2], Answer) == (family != "llava-next")


def test_a_processor_is_saved_under_the_name_of_its_class(folder_of):
    for family, name in (("qwen3-vl", "Qwen3VLProcessor"), ("internvl", "InternVLProcessor")):
        saved = json.loads((folder_of(family) / "processor_config.json").read_text())
        assert saved["processor_class"] == name
        assert isinstance(load_processor(folder_of(family)), getattr(transformers, name))


def test_settings_beside_a_published_checkpoint_are_read(folder_of, tmp_path):
    """Older folders keep them in preprocessor_config.json, and name the class there."""
    shutil.copytree(folder_of("internvl"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "processor_config.json").read_text())
    (tmp_path / "processor_config.json").write_text(
        json.dumps({"image_seq_length": 4, "processor_class": "InternVLProcessor"})
    )
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config["image_processor"]))
    whole, apart = load_processor(folder_of("internvl")), load_processor(tmp_path)
    inputs = {"images": [[WIDE]], "text": [f"a {whole.image_token}"]}
    assert whole(**inputs)["input_ids"] == apart(**inputs)["input_ids"]
    assert apart.chat_template == whole.chat_template


def test_smolvlm_is_read_as_by_its_own_processor(folder_of, tmp_path):
    """Its class needs torchvision; its function that writes an image's tokens does not."""
    shutil.copytree(folder_of("smolvlm"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "processor_config.json").read_text())
    (tmp_path / "processor_config.json").write_text(json.dumps({**config, "processor_class": "SmolVLMProcessor"}))
    processor = load_processor(tmp_path)
    found = processor(images=[[WIDE]], text=["<image>"], add_special_tokens=False)["input_ids"][0]
    expected = get_image_prompt_string(1, 2, 4, "<fake_token_around_image>", "<image>", "<global-img>")
    assert processor.tokenizer.decode(found) == expected


def test_a_tokenizer_of_another_model_is_refused(folder_of, tmp_path):
    processor = load_processor(folder_of("llava-next"))
    count = len(processor.tokenizer)
    processor.tokenizer.add_tokens(["<extra>"])
    words = f"is another model's: '<extra>' has the number {count}, and the model embeds {count} tokens"
    with pytest.raises(PrefmillError, match=words):
        check_tokenizer(processor, folder_of("llava-next"))
    shutil.copytree(folder_of("llava-next"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    token = config.pop("image_token_index", None) or config.pop("image_token_id")
    (tmp_path / "config.json").write_text(json.dumps({**config, "image_token_id": token + 1}))
    with pytest.raises(PrefmillError, match=rf"'<image>' has the number {token}, and the model expects {token + 1}"):
        check_tokenizer(load_processor(tmp_path), tmp_path)


def test_control_tokens_are_found_in_a_text(folder_of):
    markers = control_tokens(load_processor(folder_of("qwen2.5-vl")))
    assert markers.findall("a <|im_end|> b <|image_pad|> <|im_start|>user <s>") == [
        "<|im_end|>", "<|image_pad|>", "<|im_start|>"
    ]  # fmt: skip
