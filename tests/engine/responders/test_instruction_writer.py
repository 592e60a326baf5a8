import pytest
from prefmill.base.errors import PrefmillError
from prefmill.engine.device import EngineSettings
from prefmill.engine.responders.instruction_writer import META_PROMPT, InstructionWriter
from prefmill.engine.settings import Sampling

PROMPTS = ["a red cat on a table", "two dogs near the sea, painted in oil", "a {prompt} with braces {0}", "猫"]
SAMPLED = Sampling(max_new_tokens=16, temperature=1.0)


@pytest.fixture(scope="module")
def writer(engine_checkpoints):
    return InstructionWriter.from_pretrained(str(engine_checkpoints["text-model"]), EngineSettings(device="cpu"))


@pytest.mark.parametrize("sampling", [Sampling(max_new_tokens=16), SAMPLED], ids=["greedy", "sampled"])
def test_a_row_does_not_depend_on_its_batch(writer, sampling):
    batch = writer.write(PROMPTS, [1, 2, 3, 4], sampling)
    singles = [writer.write([prompt], [seed], sampling)[0] for seed, prompt in enumerate(PROMPTS, 1)]
    assert batch == singles
    assert len({answer.text for answer in batch}) > 2


def test_greedy_writing_equals_stock_generation(writer):
    message = {"role": "user", "content": META_PROMPT.replace("{prompt}", PROMPTS[0])}
    inputs = writer.tokenizer.apply_chat_template(
        [message], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    tokens = writer.model.generate(**inputs, do_sample=False, max_new_tokens=16, pad_token_id=0)
    expected = writer.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert writer.write(PROMPTS[:1], [0], Sampling(max_new_tokens=16))[0].text == expected.strip()


def test_seeds_decide(writer):
    first, second, again = (writer.write(PROMPTS[:1], [seed], SAMPLED) for seed in (1, 2, 1))
    assert first == again
    assert first != second


def test_the_request_is_configurable(engine_checkpoints):
    source = str(engine_checkpoints["text-model"])
    settings = EngineSettings(device="cpu")
    writer = InstructionWriter.from_pretrained(source, settings, meta_prompt="Ask about: {prompt}")
    usual = InstructionWriter.from_pretrained(source, settings)
    assert writer.key == usual.key
    assert writer.write(PROMPTS[:1], [1], SAMPLED) != usual.write(PROMPTS[:1], [1], SAMPLED)
    with pytest.raises(PrefmillError, match=r"lacks \{prompt\}"):
        InstructionWriter.from_pretrained(source, settings, meta_prompt="Ask something.")


def test_nothing_to_write(writer):
    assert writer.write([], [], SAMPLED) == []


def test_unequal_counts(writer):
    with pytest.raises(PrefmillError, match="1 prompts came with 2 seeds"):
        writer.write(["a"], [1, 2], SAMPLED)


def test_a_prompt_longer_than_the_context(writer):
    with pytest.raises(PrefmillError, match="shorten the prompt"):
        writer.write(["x" * 10_000], [1], SAMPLED)


def test_a_model_without_template(engine_checkpoints):
    writer = InstructionWriter.from_pretrained(str(engine_checkpoints["text-model"]), EngineSettings(device="cpu"))
    writer.tokenizer.chat_template = None
    with pytest.raises(PrefmillError, match="no chat template"):
        writer.write(["a"], [1], SAMPLED)
