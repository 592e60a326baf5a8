"""The four responders of the paper's set, LLaVA 1.6 over Mistral, Vicuna (twice) and Llama 3, tiny and random.

The templates have the form of those that llava-hf publishes with the models; each goes through our whole way.
"""

import pytest
import torch
from PIL import Image
from prefmill.engine.responders.interface import Request
from prefmill.engine.responders.transformers import TransformersResponder
from prefmill.engine.settings import EngineSettings, Sampling
from prefmill.engine.tiny.tokenizers import LLAMA3_SPECIALS, VICUNA_TEMPLATE, byte_tokenizer, token_id, word_tokens
from prefmill.engine.tiny.weights import randomize, speak_only
from prefmill.recipes.pds_dpo import pds_dpo
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    MistralConfig,
)

MISTRAL = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{{ ' [/INST]' }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\n' + part['text'] + '<|eot_id|>' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA2_SPECIALS = ("<unk>", "<s>", "</s>", "<pad>")
FAMILIES = {
    "mistral-7b": (MistralConfig, MISTRAL, LLAMA2_SPECIALS, ("<s>", "</s>"), "[INST] <image>\nWhy? [/INST]", 1),
    "vicuna-7b": (LlamaConfig, VICUNA_TEMPLATE, LLAMA2_SPECIALS, ("<s>", "</s>"), "USER: <image>\nWhy? ASSISTANT:", 2),
    "vicuna-13b": (LlamaConfig, VICUNA_TEMPLATE, LLAMA2_SPECIALS, ("<s>", "</s>"), "USER: <image>\nWhy? ASSISTANT:", 3),
    "llama3-8b": (
        LlamaConfig,
        LLAMA3,
        LLAMA3_SPECIALS,
        ("<|begin_of_text|>", "<|eot_id|>"),
        "<|start_header_id|>user<|end_header_id|>\n\n<image>\nWhy?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        2,
    ),
}
GRID = [[28, 56], [56, 28], [56, 56]]
PICTURES = [Image.linear_gradient("L").convert("RGB").resize(size) for size in ((64, 64), (90, 40), (30, 80))]


@pytest.fixture(params=FAMILIES)
def family(request):
    kind, template, specials, (start, end), rendered, layers = FAMILIES[request.param]
    tokenizer = byte_tokenizer([*specials, "<image>"], bos=start, eos=end, pad=end)
    text = kind(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2 if "vicuna" not in request.param else 4,
        bos_token_id=token_id(tokenizer, start), eos_token_id=token_id(tokenizer, end),
    )  # fmt: skip
    tower = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    config = LlavaNextConfig(
        vision_config=tower, text_config=text, image_grid_pinpoints=GRID,
        image_token_index=token_id(tokenizer, "<image>"),
    )  # fmt: skip
    model = LlavaNextForConditionalGeneration(config).eval()
    randomize(model, 5)
    speak_only(model.lm_head, word_tokens(tokenizer), token_id(tokenizer, end))
    model.generation_config.eos_token_id = token_id(tokenizer, end)
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=GRID
    )
    processor = LlavaNextProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=template,
    )  # fmt: skip
    return TransformersResponder(model, processor, "tiny", settings=EngineSettings(device="cpu")), rendered


def test_each_family_is_asked_in_its_own_form_and_answers_as_the_library_does(family):
    responder, rendered = family
    assert responder.render("Why?") == rendered
    spelled = "Why?<image>" + rendered.replace("<image>", "").replace("Why?", "").replace("user", "")
    assert responder.render(spelled).count("<image>") == 1
    marks = [word for word in rendered.replace("Why?", "").split() if word != "<image>"]
    assert all(responder.render(spelled).count(mark) == rendered.count(mark) for mark in marks)
    texts = ["Why?", "Describe the scene in detail, please.", "What is in the image?"]
    requests = [Request(text, 0, (picture,)) for text, picture in zip(texts, PICTURES, strict=True)]
    replies = responder.answer(requests, Sampling(max_new_tokens=12))
    start = responder.tokenizer.bos_token_id
    for request, reply in zip(requests, replies, strict=True):
        inputs = responder.processor(images=request.images[0], text=responder.render(request.text), return_tensors="pt")
        assert (inputs["input_ids"] == start).sum() == 1
        with torch.inference_mode():
            tokens = responder.model.generate(**inputs, do_sample=False, max_new_tokens=12, pad_token_id=0)
        expected = responder.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert reply.text == expected.strip()
        assert reply.prompt_tokens == inputs["input_ids"].shape[1]
    assert len({reply.prompt_tokens for reply in replies}) > 1


def test_the_papers_recipe_names_the_four():
    models = [each.model for each in pds_dpo().responders]
    assert models == [
        "llava-hf/llava-v1.6-mistral-7b-hf", "llava-hf/llava-v1.6-vicuna-7b-hf",
        "llava-hf/llava-v1.6-vicuna-13b-hf", "llava-hf/llama3-llava-next-8b-hf",
    ]  # fmt: skip
