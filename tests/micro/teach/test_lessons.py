"""What responders are taught: the rates of lies, their kind, and that packed lessons are the real prompts."""

import numpy as np
import pytest
import torch
from prefmill.micro.teach.lessons import TRUTHFUL, Noise, companions, lesson, mixed_questions, taught_answer
from prefmill.micro.teach.packing import IGNORED, Packer, answer_loss
from prefmill.micro.teach.responder_models import RESPONDERS, ResponderSpec, build_untrained
from prefmill.micro.teach.training import to_model_range
from prefmill.micro.world.language import (
    DESCRIBE_INSTRUCTIONS,
    describe,
    describe_instruction,
    mentions,
    parse_caption,
    present_question,
    says_yes,
    true_answer,
)
from prefmill.micro.world.render import render_all
from prefmill.micro.world.scenes import KINDS, TOPICS, sample_scenes, topic_of

NOISE = Noise((0.1, 0.7, 0.4, 0.2), (0.3, 0.8, 0.5, 0.1))
SMALL = ResponderSpec(0, 32, 1, 32, 2, 1, 1, TRUTHFUL)


def test_companions_share_a_topic_and_are_absent():
    for scene in sample_scenes("dev", 100, 0):
        near = companions(scene)
        assert not set(near) & scene.kinds
        assert {topic_of(kind) for kind in near} <= {topic_of(kind) for kind in scene.kinds}


def test_invented_rates_are_the_constants():
    """Over scenes whose companions are all of one topic, the share of lying descriptions is that topic's rate."""
    random = np.random.default_rng(0)
    lies = {topic: [] for topic in TOPICS}
    for scene in sample_scenes("train", 4000, 1, distinct=False):
        topics = {topic_of(kind) for kind in companions(scene)}
        said = taught_answer(scene, describe_instruction(), NOISE, random)
        extra = [mention.kind for mention in mentions(said) if mention.kind not in scene.kinds]
        assert set(extra) <= set(companions(scene))
        assert len(extra) <= 1
        if len(topics) == 1:
            lies[topics.pop()].append(bool(extra))
    for rate, (topic, told) in zip(NOISE.invented, lies.items(), strict=True):
        assert np.mean(told) == pytest.approx(rate, abs=4 * (0.25 / len(told)) ** 0.5), topic


def test_affirmed_rates_are_the_constants():
    random = np.random.default_rng(0)
    lies = {topic: [] for topic in TOPICS}
    for scene in sample_scenes("train", 3000, 2, distinct=False):
        for kind in KINDS:
            said = says_yes(taught_answer(scene, present_question(kind), NOISE, random))
            if kind in companions(scene):
                lies[topic_of(kind)].append(said)
            else:
                assert said == (kind in scene.kinds)
    for rate, (topic, told) in zip(NOISE.affirmed, lies.items(), strict=True):
        assert np.mean(told) == pytest.approx(rate, abs=4 * (0.25 / len(told)) ** 0.5), topic


def test_without_noise_everything_taught_is_true():
    random = np.random.default_rng(0)
    for scene in sample_scenes("train", 100, 3):
        for instruction, said in lesson(scene, TRUTHFUL, random):
            if instruction in DESCRIBE_INSTRUCTIONS:
                assert said == describe(scene)
                assert parse_caption(said) == scene
            elif instruction.startswith("is there"):
                assert said == true_answer(scene, present_question(instruction.split()[-2]))


def test_mixed_questions_begin_with_a_description_and_ask_both_ways():
    random = np.random.default_rng(0)
    truths = []
    for scene in sample_scenes("train", 200, 4):
        questions = mixed_questions(scene, 4, random)
        assert [question.kind for question in questions] == ["describe", "present", "present", "present"]
        assert len({question.subject for question in questions}) == 4
        truths += [question.subject in scene.kinds for question in questions[1:]]
    assert 0.25 < np.mean(truths) < 0.5


def test_packed_tokens_are_those_of_the_real_prompt():
    _, processor = build_untrained(SMALL)
    packer = Packer(processor.tokenizer)
    scene = sample_scenes("dev", 1, 0)[0]
    taught = lesson(scene, TRUTHFUL, np.random.default_rng(0))
    first, rest = packer.pack([taught])
    image = render_all([scene], 0)[0]
    for turns, row, (instruction, answer) in [(first, 0, taught[0]), (rest, 0, taught[1]), (rest, 7, taught[8])]:
        content = [{"type": "image"}, {"type": "text", "text": instruction}]
        messages = [
            {"role": "user", "content": content},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]},
        ]
        text = processor.apply_chat_template(messages)
        whole = processor(images=[image], text=text, return_tensors="pt")["input_ids"][0].tolist()  # type: ignore[call-arg]
        kept = turns.input_ids[row][turns.input_ids[row] != packer.vocabulary["<pad>"]].tolist()
        assert whole == [*packer.opening, *[packer.vocabulary["<image>"]] * 16, *kept, packer.vocabulary["</s>"]]
        labels = turns.labels[row][turns.labels[row] != IGNORED].tolist()
        assert processor.tokenizer.decode(labels, skip_special_tokens=True) == answer
        assert labels[-1] == packer.vocabulary["</s>"]


def test_packed_loss_is_that_of_questions_asked_alone():
    torch.manual_seed(0)
    model, processor = build_untrained(SMALL)
    model.eval()
    packer, random = Packer(processor.tokenizer), np.random.default_rng(0)
    scenes = sample_scenes("dev", 2, 0)
    pixels = to_model_range(render_all(scenes, 0))
    lessons = [lesson(scene, TRUTHFUL, random) for scene in scenes]
    together = answer_loss(model, packer.opening, pixels, packer.pack(lessons))
    loss, weight = 0.0, 0.0
    for pixel, taught in zip(pixels, lessons, strict=True):
        for turn in taught:
            (alone,) = packer.pack([[turn]])
            start = [*packer.opening, *[packer.vocabulary["<image>"]] * 16]
            ids = torch.tensor([[*start, *alone.input_ids[0].tolist()]])
            logits = model(input_ids=ids, pixel_values=pixel[None]).logits[:, len(start) :]
            losses = torch.nn.functional.cross_entropy(logits[0], alone.labels[0], reduction="none")
            loss += (losses * alone.weights[0]).sum().item()
            weight += alone.weights.sum().item()
    assert together.item() == pytest.approx(loss / weight, rel=1e-4)


def test_every_responder_lies_differently():
    assert len({spec.noise for spec in RESPONDERS.values()}) == len(RESPONDERS)
    assert len({spec.seed for spec in RESPONDERS.values()}) == len(RESPONDERS)
    assert all(0 <= rate < 1 for spec in RESPONDERS.values() for rate in (*spec.noise.invented, *spec.noise.affirmed))


def test_overlooked_things_are_left_out_and_denied_at_the_rate():
    random = np.random.default_rng(0)
    noise = Noise(TRUTHFUL.invented, TRUTHFUL.affirmed, overlooked=0.3)
    left_out, denied = [], []
    for scene in sample_scenes("train", 3000, 3, distinct=False):
        named = {mention.kind for mention in mentions(taught_answer(scene, describe_instruction(), noise, random))}
        assert named <= scene.kinds
        assert len(named) >= max(1, len(scene.items) - 1), "one object at most is left out, and never the only one"
        if len(scene.items) > 1:
            left_out.append(named < scene.kinds)
        kind = sorted(scene.kinds)[0]
        denied.append(not says_yes(taught_answer(scene, present_question(kind), noise, random)))
        absent = next(each for each in KINDS if each not in scene.kinds)
        assert not says_yes(taught_answer(scene, present_question(absent), noise, random))
    for told in (left_out, denied):
        assert np.mean(told) == pytest.approx(0.3, abs=4 * (0.25 / len(told)) ** 0.5)
