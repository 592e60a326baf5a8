"""A processor that does not fit its model is found when it is loaded, and named."""

import json
import shutil

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.engine.responders.transformers import TransformersResponder
from prefmill.engine.settings import EngineSettings

BROKEN_TEMPLATES = {
    "syntax": ("{% for %}", "does not work"),
    "raises": ("{{ raise_exception('no') }}", "does not work"),
    "no image": ("{{ messages[0]['content'][1]['text'] }}", "exactly one image token"),
    "two images": ("<image><image>{{ messages[0]['content'][1]['text'] }}", "exactly one image token"),
    "no text": ("<image>", "without the instruction"),
}


@pytest.mark.parametrize(("template", "message"), BROKEN_TEMPLATES.values(), ids=BROKEN_TEMPLATES)
def test_a_broken_template_is_found_on_loading(engine_checkpoints, tmp_path, template, message):
    folder = tmp_path / "model"
    shutil.copytree(engine_checkpoints["responder-a"], folder)
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(PrefmillError, match=message):
        TransformersResponder.from_pretrained(str(folder), EngineSettings(device="cpu"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("image_token", "<pad>", "image token"), ("processor_class", "FooProcessor", "no processor for images|not load")],
)
def test_a_wrong_processor_is_found_on_loading(engine_checkpoints, tmp_path, key, value, message):
    folder = tmp_path / "model"
    shutil.copytree(engine_checkpoints["responder-a"], folder)
    for name in ("processor_config.json", "tokenizer_config.json"):
        stated = json.loads((folder / name).read_text())
        if name == "processor_config.json" or key in stated:
            (folder / name).write_text(json.dumps({**stated, key: value}))
    with pytest.raises(PrefmillError, match=message):
        TransformersResponder.from_pretrained(str(folder), EngineSettings(device="cpu"))
