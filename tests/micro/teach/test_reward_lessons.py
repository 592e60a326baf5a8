"""What the text reward is taught: exact ratings by hand, flaws that are flaws, and labels that say what is true."""

import numpy as np
import pytest
import torch
from prefmill.engine.scorers.dialogue import judge_context
from prefmill.engine.scorers.text_reward import ATTRIBUTES, find_gate, gate_pattern_of
from prefmill.micro.teach.rated_answers import FLAWS, flawed_answer
from prefmill.micro.teach.rating import claims, rate
from prefmill.micro.teach.reward_lessons import ANSWERS, UNKNOWN, DialogueMaker, random_question
from prefmill.micro.teach.tokenizers import text_reward_tokenizer
from prefmill.micro.world.language import (
    Question,
    caption,
    color_question,
    count_question,
    describe,
    describe_instruction,
    present_question,
    true_answer,
)
from prefmill.micro.world.scenes import CELLS, COLOURS, Item, Scene, sample_scenes

SCENE = Scene((Item(0, "ball", "red"), Item(3, "cup", "blue")), "gray")
DESCRIBE = describe_instruction(0)


@pytest.mark.parametrize(
    ("answer", "correctness", "helpfulness", "coherence", "fitting"),
    [
        ("there is a red ball at top left and a blue cup at bottom right on gray .", 1, 1, 1, 1),
        # one invented object halves
        (
            "there is a red ball at top left and a blue cup at bottom right and a red knife at top right on gray .",
            0.5,
            0.5,
            1,
            1,
        ),
        # wrong colour, wrong place and wrong ground: three halvings
        ("there is a blue ball at top right and a blue cup at bottom right on white .", 0.125, 0.125, 1, 1),
        # of two objects and half for the ground, one and a half are said
        ("there is a red ball at top left on gray .", 1, 1.5 / 2.5, 1, 1),
        # a sentence of no form, with one object and no ground; and what fits no form counts half
        ("ball red a", 1, 0.5 * 1 / 2.5, 0, 0),
        # another question's form
        ("yes , there is a ball .", 1, 0.5 * 1 / 2.5, 1, 0),
        ("", 0, 0, 0, 0),
    ],
)
def test_descriptions_by_hand(answer, correctness, helpfulness, coherence, fitting):
    rating = rate(SCENE, DESCRIBE, answer)
    assert rating.correctness == pytest.approx(correctness)
    assert rating.helpfulness == pytest.approx(helpfulness)
    assert (rating.coherence, rating.fitting) == (coherence, fitting)


@pytest.mark.parametrize(
    ("question", "answer", "correctness"),
    [
        (present_question("ball"), "yes , there is a ball .", 1),
        (present_question("ball"), "no , there is no ball .", 0),
        (present_question("knife"), "no , there is no knife .", 1),
        (present_question("knife"), "yes , there is a knife .", 0),
        (present_question("ball"), "yes , there is no ball .", 0),
        (color_question("cup"), "the cup is blue .", 1),
        (color_question("cup"), "the cup is red .", 0),
        (color_question("knife"), "there is no knife .", 1),
        (color_question("knife"), "the knife is red .", 0),
        (count_question(), "there are two things .", 1),
        (count_question(), "there is one thing .", 0),
    ],
)
def test_short_answers_by_hand(question, answer, correctness):
    rating = rate(SCENE, question, answer)
    assert rating.correctness == correctness
    assert rating.fitting == (answer != "yes , there is no ball .")


def test_true_answers_are_best_and_every_flaw_is_worse():
    random = np.random.default_rng(0)
    for scene in sample_scenes("dev", 60, 0):
        for kind in ("describe", "present", "color", "count"):
            question = random_question(scene, kind, random)
            assert rate(scene, question, true_answer(scene, question)).quality == pytest.approx(1)
            for flaw in FLAWS:
                flawed = flawed_answer(scene, question, flaw, random)
                assert flawed == true_answer(scene, question) or rate(scene, question, flawed).quality < 0.98, flaw


def test_quality_prefers_silence_to_invention_and_sense_to_garble():
    incomplete = "there is a red ball at top left on gray ."
    invented = "there is a red ball at top left and a blue cup at bottom right and a red knife at top right on gray ."
    garbled = describe(SCENE).replace("there is", "is there")
    qualities = [rate(SCENE, DESCRIBE, text).quality for text in (incomplete, invented, garbled)]
    assert qualities == sorted(qualities, reverse=True)
    assert len(set(qualities)) == 3


def test_attributes_stand_where_armorm_has_them():
    named = dict(
        zip(ATTRIBUTES, rate(SCENE, DESCRIBE, "there is a red ball at top left on gray .").attributes, strict=True)
    )
    helpsteer = {name.split("-")[1]: value * 5 - 0.5 for name, value in list(named.items())[:5]}
    assert helpsteer == pytest.approx(
        {"helpfulness": 4 * 0.6, "correctness": 4, "coherence": 4, "complexity": 4 * 0.3, "verbosity": 4 * 11 / 32}
    )
    assert named["ultrafeedback-truthfulness"] == 1
    assert named["beavertails-is_safe"] == 1
    assert named["code-style"] == 0


def test_claims_by_hand():
    text = "there is a red ball at top right and a red cup at bottom right and a knife on gray ."
    words = text.split()
    found = claims(SCENE, DESCRIBE, list[str](words))
    said = {
        (place, word): verdict
        for place, (word, verdict) in enumerate(zip(words, found, strict=True))
        if verdict is not None
    }
    assert said == {
        (4, "ball"): True,
        (7, "right"): False,
        (11, "cup"): False,
        (14, "right"): True,
        (17, "knife"): False,
        (19, "gray"): True,
    }
    assert claims(SCENE, present_question("knife"), ["no", ",", "there", "is", "no", "knife", "."])[0] is True
    assert claims(SCENE, Question("present", "is there a cup ?", "cup"), ["no"]) == [False]


def test_dialogues_are_what_the_engine_reads():
    tokenizer = text_reward_tokenizer()
    maker, random = DialogueMaker(tokenizer), np.random.default_rng(0)
    scenes = sample_scenes("dev", 8, 0)
    dialogues = maker.make(scenes, random)
    words = {number: word for word, number in tokenizer.get_vocab().items()}
    for row, scene in enumerate(scenes):
        prompt = dialogues.prompts.input_ids[row][dialogues.prompts.mask[row].bool()].tolist()
        for answer in range(ANSWERS):
            number = row * ANSWERS + answer
            ids = dialogues.answers.input_ids[number][dialogues.answers.mask[number].bool()].tolist()
            text = " ".join(words[token] for token in ids[:-1])
            instruction = (
                " ".join(words[token] for token in prompt).split(f"{caption(scene)} ")[1].split(" <|eot_id|>")[0]
            )
            messages = [
                {"role": "user", "content": judge_context(caption(scene), instruction)},
                {"role": "assistant", "content": text},
            ]
            whole = tokenizer(str(tokenizer.apply_chat_template(messages, tokenize=False)), add_special_tokens=False)
            assert whole["input_ids"] == prompt + ids
            gate = find_gate(torch.tensor([whole["input_ids"]]), gate_pattern_of(tokenizer))
            assert gate.item() == len(prompt) - maker.gate_offset
            for place, token in enumerate(ids):
                item = next((each for each in scene.items if each.kind == words[token]), None)
                if item:
                    known = dialogues.answers.known[number, place].tolist()
                    assert known[1:3] == [1 + COLOURS.index(item.colour), 1 + item.cell]
    assert dialogues.attributes.shape == (8 * ANSWERS, len(ATTRIBUTES))
    assert (dialogues.quality.view(8, ANSWERS)[:, 0] > 0.999).all()
    assert dialogues.prompts.known[..., :3].max() <= max(len(COLOURS), len(CELLS))
    assert (dialogues.prompts.known[..., 0] == UNKNOWN).all()
