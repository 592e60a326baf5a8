import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.device import EngineSettings
from prefmill.engine.scorers.dialogue import tokenize_dialogue
from prefmill.engine.scorers.text_reward import ATTRIBUTES, TextReward, TextRewardModel, find_gate, gate_pattern_of
from transformers import LlamaConfig

PROMPTS = ["What is in the image?", "Describe the scene in detail, please.", "Why?"]
RESPONSES = ["A cat.", "Two dogs stand on a hill near the sea, and the sky is orange.", ""]


@pytest.fixture(scope="module")
def judge(engine_checkpoints):
    return TextReward.from_pretrained(str(engine_checkpoints["text-reward"]), EngineSettings(device="cpu"))


def tokens_of(judge, prompt, response):
    dialogue = tokenize_dialogue(judge.tokenizer, prompt, response, judge.max_length)
    return [*dialogue.opening, *dialogue.answer], dialogue.gate, dialogue.truncated


def test_golden_rewards(load_golden, golden_weights):
    golden = load_golden("armorm.json")
    model = TextRewardModel(LlamaConfig(**golden["config"]))
    model.load_state_dict(golden_weights(golden["state_dict_shapes"], ("weight", "logit_scale")))
    lengths = torch.tensor([len(row) for row in golden["rows"]])
    tokens = torch.full((len(lengths), int(lengths.max())), golden["config"]["pad_token_id"])
    for number, row in enumerate(golden["rows"]):
        tokens[number, : len(row)] = torch.tensor(row)
    with torch.inference_mode():
        scores, rewards, gate = model.eval()(tokens, lengths)
    for found, name in ((scores, "score"), (rewards, "rewards"), (gate, "gating_output")):
        torch.testing.assert_close(found, torch.tensor(golden[name]), atol=1e-4, rtol=0)


def test_the_attributes_are_the_nineteen():
    assert len(ATTRIBUTES) == len(set(ATTRIBUTES)) == 19
    assert ATTRIBUTES[4] == "helpsteer-verbosity"
    assert ATTRIBUTES[-1] == "code-readability"


def test_a_row_does_not_depend_on_its_batch(judge):
    batch = judge.score(PROMPTS, RESPONSES)
    assert batch.attributes.shape == batch.gate.shape == (3, 19)
    assert batch.truncated == [False] * 3
    for row in range(3):
        single = judge.score(PROMPTS[row : row + 1], RESPONSES[row : row + 1])
        for name in ("scores", "attributes", "gate"):
            assert (getattr(single, name)[0] - getattr(batch, name)[row]).abs().max() < 1e-5
    assert batch.scores.std() > 1e-3


def test_rows_are_rendered_with_one_beginning_and_the_whole_dialogue(judge):
    tokens, gate, cut = tokens_of(judge, PROMPTS[0], RESPONSES[0])
    messages = [{"role": "user", "content": PROMPTS[0]}, {"role": "assistant", "content": RESPONSES[0]}]
    expected = judge.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert tokens == expected
    assert tokens.count(judge.tokenizer.bos_token_id) == 1
    assert not cut
    assert find_gate(torch.tensor([tokens]), gate_pattern_of(judge.tokenizer)).tolist() == [gate]


def test_the_gate_depends_on_the_prompt_alone(judge):
    gates = judge.score([PROMPTS[0]] * 3, RESPONSES).gate
    assert (gates - gates[0]).abs().max() < 1e-6
    assert (gates[0] - judge.score([PROMPTS[1]], [RESPONSES[0]]).gate[0]).abs().max() > 1e-4


def test_an_answer_that_quotes_the_pattern_does_not_move_the_gate(judge):
    quoting = "I say <|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n and so on"
    assert (judge.score([PROMPTS[0]], [quoting]).gate - judge.score([PROMPTS[0]], ["ok"]).gate).abs().max() < 1e-6


def test_a_long_answer_is_cut_and_keeps_its_end_token(engine_checkpoints):
    judge = TextReward.from_pretrained(
        str(engine_checkpoints["text-reward"]), EngineSettings(device="cpu"), max_length=64
    )
    whole = judge.score([PROMPTS[0]], ["A cat."])
    cut = judge.score([PROMPTS[0]] * 2, ["a cat " * 1000, "A cat."])
    assert cut.truncated == [True, False]
    assert (cut.gate - whole.gate).abs().max() < 1e-5
    tokens, gate, _ = tokens_of(judge, PROMPTS[0], "a cat " * 1000)
    assert len(tokens) == 64
    assert tokens[-1] == judge.tokenizer.eos_token_id
    assert find_gate(torch.tensor([tokens]), gate_pattern_of(judge.tokenizer)).tolist() == [gate]


def test_a_long_prompt_is_cut_before_its_end(engine_checkpoints):
    judge = TextReward.from_pretrained(
        str(engine_checkpoints["text-reward"]), EngineSettings(device="cpu"), max_length=64
    )
    tokens, gate, cut = tokens_of(judge, "a red cat " * 1000, "Yes, a cat it is.")
    assert cut
    assert len(tokens) == 64
    assert find_gate(torch.tensor([tokens]), gate_pattern_of(judge.tokenizer)).tolist() == [gate]
    assert str(judge.tokenizer.decode(tokens[gate:])).endswith("a cat it is.<|eot_id|>")


def test_the_last_pattern_counts_and_a_missing_one_is_an_error():
    rows = torch.tensor([[1, 2, 9, 1, 2, 9], [0, 0, 1, 2, 0, 0]])
    assert find_gate(rows, [1, 2]).tolist() == [3, 2]
    with pytest.raises(PrefmillError, match="is missing in a row"):
        find_gate(rows, [9, 9])
    with pytest.raises(PrefmillError, match="no prompt end"):
        find_gate(rows[:, :1], [1, 2])


def test_nothing_to_judge(judge):
    assert judge.score([], []).scores.shape == (0,)


def test_unequal_counts(judge):
    with pytest.raises(PrefmillError, match="1 prompts came with 2 responses"):
        judge.score(["a"], ["b", "c"])


def test_a_row_that_overflows_does_not_stop_the_others(engine_checkpoints):
    judge = TextReward.from_pretrained(str(engine_checkpoints["text-reward"]), EngineSettings(device="cpu"))
    (broken,) = judge.tokenizer("zebra", add_special_tokens=False)["input_ids"][:1]
    before = judge.score(["a", "a"], ["b", "zebra"]).scores
    with torch.no_grad():
        judge.model.model.embed_tokens.weight[broken] = float("nan")
    after = judge.score(["a", "a"], ["b", "zebra"]).scores
    assert before.isfinite().all()
    assert after.isnan().tolist() == [False, True]
    assert abs(after[0] - before[0]) < 1e-5


def test_the_heads_go_through_the_kernel_and_keep_their_gradients(judge):
    """The kernel's path against autograd's own, and only without gradients."""
    states = torch.randn(5, judge.model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    owner = torch.tensor([0, 0, 1, 2, 1])
    with torch.enable_grad():
        learned = judge.model.read_heads(states, states[:3], owner)
    assert learned[0].requires_grad
    with torch.no_grad():
        for ours, expected in zip(judge.model.read_heads(states, states[:3], owner), learned, strict=True):
            torch.testing.assert_close(ours, expected.detach(), atol=1e-6, rtol=1e-5)


def test_a_tokenizer_without_template(engine_checkpoints):
    judge = TextReward.from_pretrained(str(engine_checkpoints["text-reward"]), EngineSettings(device="cpu"))
    judge.tokenizer.chat_template = None
    with pytest.raises(PrefmillError, match="no chat template"):
        judge.score(["a"], ["b"])
    judge.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(PrefmillError, match="assistant header"):
        judge.score(["a"], ["b"])


def test_bfloat16_keeps_the_heads_in_float32(engine_checkpoints):
    settings = EngineSettings(device="cpu", dtype="bfloat16")
    judge = TextReward.from_pretrained(str(engine_checkpoints["text-reward"]), settings)
    assert judge.model.regression_layer.weight.dtype == torch.float32
    precise = TextReward.from_pretrained(str(engine_checkpoints["text-reward"]), EngineSettings(device="cpu"))
    coarse = judge.score(PROMPTS, RESPONSES).scores
    assert (coarse - precise.score(PROMPTS, RESPONSES).scores).abs().max() < 0.1


PANEL = ["A cat.", "Two dogs stand on a hill near the sea, and the sky is orange.", "", "I do not know. " * 20]


def test_answers_share_their_prompt_and_score_as_alone(judge):
    """Prompts interleaved, of unequal lengths, with four answers each: every row as if it were alone."""
    asked = [(prompt, answer) for answer in PANEL for prompt in PROMPTS]
    prompts, answers = zip(*asked, strict=True)
    together = judge.score(prompts, answers)
    for row, (prompt, answer) in enumerate(asked):
        alone = judge.score([prompt], [answer])
        for name in ("scores", "attributes", "gate"):
            assert (getattr(alone, name)[0] - getattr(together, name)[row]).abs().max() < 1e-5
    assert together.scores.std() > 1e-3


def test_a_prompt_is_computed_once_for_all_of_its_answers(judge):
    seen = []
    hook = judge.model.model.register_forward_hook(
        lambda module, arguments, keywords, output: seen.append(keywords["input_ids"]), with_kwargs=True
    )
    gated = judge.model.gating.layers[0].register_forward_hook(
        lambda module, arguments, output: seen.append(arguments[0])
    )
    judge.score([PROMPTS[1]] * 4, PANEL)
    hook.remove()
    gated.remove()
    opening, answers = len(tokens_of(judge, PROMPTS[1], "")[0]) - 1, [len(tokens_of(judge, "", a)[0]) for a in PANEL]
    empty = len(tokens_of(judge, "", "")[0]) - 1
    assert seen[0].shape == (1, opening + sum(answers) - 4 * empty)
    assert seen[1].shape[0] == 1


@pytest.mark.parametrize("budget", [1, 60, 100_000])
def test_the_batch_size_changes_no_score(engine_checkpoints, judge, budget):
    other = TextReward(judge.model, judge.tokenizer, "key", batch_tokens=budget)
    found = other.score(PROMPTS * 2, RESPONSES + PANEL[:3])
    expected = judge.score(PROMPTS * 2, RESPONSES + PANEL[:3])
    assert (found.scores - expected.scores).abs().max() < 1e-5


def test_the_last_occurrence_is_the_references_gate(judge, engine_checkpoints):
    """The compatibility switch against the model's own search, for answers that quote the pattern and others."""
    quoting = "I say <|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n and so on"
    compatible = TextReward(judge.model, judge.tokenizer, "key", gate_position="last_occurrence")
    answers = [*PANEL, quoting]
    found = compatible.score([PROMPTS[0]] * 5, answers)
    for row, answer in enumerate(answers):
        tokens = torch.tensor([tokens_of(judge, PROMPTS[0], answer)[0]])
        with torch.inference_mode():
            scores, _, gate = judge.model(tokens, torch.tensor([tokens.shape[1]]))
        assert (found.gate[row] - gate[0]).abs().max() < 1e-5
        assert abs(found.scores[row] - scores[0]) < 1e-5
    usual = judge.score([PROMPTS[0]] * 5, answers)
    assert (usual.gate[:4] - found.gate[:4]).abs().max() < 1e-6
    assert (usual.gate[4] - found.gate[4]).abs().max() > 1e-4


def test_attributes_by_name_and_on_the_helpsteer_scale(judge):
    judged = judge.score(PROMPTS, RESPONSES)
    named = judged.named(1)
    assert tuple(named) == ATTRIBUTES
    assert named["helpsteer-verbosity"] == judged.attributes[1, 4].item()
    scale = judged.helpsteer(1)
    assert list(scale) == ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]
    assert scale["verbosity"] == pytest.approx(5 * named["helpsteer-verbosity"] - 0.5, abs=1e-6)
