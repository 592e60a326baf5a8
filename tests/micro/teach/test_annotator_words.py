import json
from typing import Any

import pytest
from PIL import Image
from prefmill.engine.responders.chat import Chat
from prefmill.engine.responders.image_ratings import ASPECTS, ratings_form
from prefmill.engine.responders.structured import read_form
from prefmill.micro.teach.annotator import PATCH_SIZE
from prefmill.micro.teach.annotator_pictures import request_text
from prefmill.micro.teach.annotator_words import TEMPLATE, annotator_tokenizer, answer_tokens, request_tokens
from prefmill.micro.teach.responder_models import llava_processor

ENTRIES = [("the ball is blue , not red", 3), ("all as asked", 5), ("a car not asked , and more", None)]


@pytest.fixture(scope="module")
def tokenizer():
    return annotator_tokenizer()


def test_answers_are_the_form_that_is_asked_for(tokenizer):
    tokens = answer_tokens(ENTRIES, tokenizer.get_vocab())
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    entries = [{"rationale": rationale, "rating": rating} for rationale, rating in ENTRIES]
    assert text == json.dumps({"images": entries})
    form = read_form(ratings_form(3, ("fidelity",)), text)
    assert [entry.rating for entry in form.images] == [3, 5, None]
    assert len(tokens) == 17 + 3 * 3 + 1


@pytest.mark.parametrize("images", [1, 2, 4])
def test_taught_tokens_are_those_that_the_processor_makes(tokenizer, images):
    processor = llava_processor(tokenizer, TEMPLATE, PATCH_SIZE)
    text = request_text("aesthetic", "a red ball at top left on gray", images)
    rendered = Chat(processor, "annotator").render(text, images)
    picture = Image.new("RGB", (32, 32))
    ask: Any = processor
    read = ask(images=[[picture] * images], text=[rendered], return_tensors="pt")["input_ids"][0].tolist()
    taught = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert read == request_tokens(taught, images, 4, tokenizer.get_vocab())
    assert tokenizer.unk_token_id not in read


def test_a_request_is_read_without_what_the_annotators_do_not_know(tokenizer):
    kept = {}
    for aspect in ASPECTS:
        text = request_text(aspect, "a red ball at top left on gray", 2)
        kept[aspect] = tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])
        assert "a red ball at top left on gray" in kept[aspect]
        assert len(kept[aspect].split()) < len(text.split())
    assert len(set(kept.values())) == len(ASPECTS)
