"""The numbers TRL trains on, against DPO written out by hand in plain torch.

By hand means: token ids put together here, images through the model's own image processor, logits of the whole
sequence, log-softmax, sum over the answer and its end token; the reference is the base model read from disk, which
never had an adapter.
"""

import re

import huggingface_hub.constants
import pytest
import torch
from peft import PeftModel
from prefmill.base.errors import PrefmillError
from prefmill.engine.images import decode_image
from prefmill.pipeline.records import Candidate
from prefmill.pipeline.store import Run
from prefmill.train.collate import PairCollator
from prefmill.train.data import RunImages, load_pairs
from prefmill.train.job import TrainingJob
from prefmill.train.losses import LOSSES
from prefmill.train.trl_backend import build_trainer, lora_targets
from transformers import AutoProcessor, LlavaForConditionalGeneration

BETA = 0.25


@pytest.fixture
def base(model_folder):
    return LlavaForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float32).eval()


@pytest.fixture
def make_job(run_folder, model_folder, settings, tmp_path, monkeypatch):
    # the launcher tells its workers the same: nobody is called home
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)

    def make(**changes):
        config = settings(zero_stage=0, beta=BETA, **changes)
        collator = PairCollator(AutoProcessor.from_pretrained(model_folder))
        pairs, images = load_pairs(run_folder), RunImages(run_folder)
        return TrainingJob(config, model_folder, collator, pairs, images, tmp_path, None, "cpu", "float32", 0.0)

    return make


def adapted_trainer(job, gain=0.02):
    """A trainer whose adapter already acts: a fresh one is zero, so that every reward would be zero."""
    trainer = build_trainer(job)
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in trainer.adapted_model.named_parameters():
            if "lora_B" in name:
                weight.copy_(gain * torch.randn(weight.shape, generator=stream))
    return trainer


def log_prob_by_hand(model, processor, pair, image, answer):
    """Sum of log-probabilities of the answer's tokens and the end token, one sequence, no padding."""
    tokenizer = processor.tokenizer

    def ids(text):
        return tokenizer(text, add_special_tokens=False).input_ids

    question = [tokenizer.bos_token_id, *ids("USER: "), *ids("<image>") * 16, *ids(f"\n{pair.instruction} ASSISTANT:")]
    answer_ids = [*ids(f" {answer}"), tokenizer.eos_token_id]
    pixels = processor.image_processor(images=image, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*question, *answer_ids]]), pixel_values=pixels).logits[0]
    log_probs = logits.double().log_softmax(dim=-1)
    places = torch.arange(len(question) - 1, len(question) + len(answer_ids) - 1)
    return log_probs[places, torch.tensor(answer_ids)].sum()


def by_hand(job, policy, reference, pair):
    """Return log-probabilities [policy chosen, policy rejected, reference chosen, reference rejected]."""
    candidates = Run.open(job.images.run_folder).dataset("candidates", Candidate)
    image = decode_image(next(iter(candidates.take([pair.image_id]))).image)
    return torch.stack(
        [
            log_prob_by_hand(model, job.collator.processor, pair, image, answer)
            for model in (policy, reference)
            for answer in (pair.chosen, pair.rejected)
        ]
    )


def test_first_step_is_dpo(make_job, base, tmp_path):
    """Loss, rewards and log-probabilities that TRL logs at step 1, over a padded batch of all six pairs.

    Float32 against float64 sums of up to 60 log-probabilities of size -2 to -8: 1e-5 relative is rounding.
    """
    job = make_job(batch_size=6, accumulation=1, max_steps=1)
    trainer = adapted_trainer(job)
    trainer.adapted_model.save_pretrained(str(tmp_path / "before"), save_embedding_layers=False)
    trainer.train()
    logged = trainer.state.log_history[0]

    reference = base
    other = LlavaForConditionalGeneration.from_pretrained(job.model_folder, dtype=torch.float32)
    policy = PeftModel.from_pretrained(other, tmp_path / "before").eval()
    table = torch.stack([by_hand(job, policy, reference, pair) for pair in job.pairs])
    rewards = BETA * (table[:, :2] - table[:, 2:])
    margins = rewards[:, 0] - rewards[:, 1]
    expected = {
        "loss": -torch.nn.functional.logsigmoid(margins).mean(),
        "rewards/chosen": rewards[:, 0].mean(),
        "rewards/rejected": rewards[:, 1].mean(),
        "rewards/margins": margins.mean(),
        "rewards/accuracies": (margins > 0).double().mean(),
        "logps/chosen": table[:, 0].mean(),
        "logps/rejected": table[:, 1].mean(),
    }
    assert margins.abs().min() > 1e-3, "the adapter must act for the equality to mean something"
    for name, value in expected.items():
        assert logged[name] == pytest.approx(value.item(), rel=1e-5, abs=1e-5), name


def test_sft_weight_adds_the_chosen_answers_likelihood(make_job, base, tmp_path):
    """The loss is DPO's plus 0.5 times minus the chosen answers' mean log-probability per token."""
    job = make_job(batch_size=6, accumulation=1, max_steps=1, sft_weight=0.5)
    trainer = adapted_trainer(job)
    trainer.adapted_model.save_pretrained(str(tmp_path / "before"), save_embedding_layers=False)
    trainer.train()
    other = LlavaForConditionalGeneration.from_pretrained(job.model_folder, dtype=torch.float32)
    policy = PeftModel.from_pretrained(other, tmp_path / "before").eval()
    table = torch.stack([by_hand(job, policy, base, pair) for pair in job.pairs])
    margins = BETA * (table[:, 0] - table[:, 1] - table[:, 2] + table[:, 3])
    tokenizer = job.collator.processor.tokenizer
    tokens = sum(len(tokenizer(f" {pair.chosen}", add_special_tokens=False).input_ids) + 1 for pair in job.pairs)
    added = -0.5 * table[:, 0].sum().item() / tokens
    assert added > 0.5, "the added term must count for the sum to mean something"
    expected = -torch.nn.functional.logsigmoid(margins).mean().item() + added
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_gradient_is_that_of_dpo(make_job, base):
    """The gradient of every LoRA weight, against autograd through the loss written out over full logits."""
    job = make_job(batch_size=2, accumulation=1, max_steps=1)
    trainer = adapted_trainer(job)
    batch = job.collator([trainer.train_dataset[0], trainer.train_dataset[1]])
    model = trainer.adapted_model
    trainer.compute_loss(model, dict(batch)).backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()

    counted = batch.pop("completion_mask")[:, 1:]

    def log_probs(network):
        every = network(**batch).logits[:, :-1].log_softmax(dim=-1)
        return (every.gather(2, batch["input_ids"][:, 1:, None]).squeeze(2) * counted).sum(dim=1)

    with torch.no_grad():
        reference = log_probs(base)
    gains = BETA * (log_probs(model) - reference)
    (-torch.nn.functional.logsigmoid(gains[:2] - gains[2:]).mean()).backward()
    expected = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert found.keys() == expected.keys()
    assert all(".language_model." in name and "lora_" in name for name in found)
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_only_the_language_model_learns(make_job, base):
    """Vision tower, projector, head and embeddings stay as they are: adapter off is the reference."""
    trainer = build_trainer(make_job())
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    trainer.train()
    learnt = trainer.adapted_model.unload()
    after = learnt.state_dict()
    assert after.keys() == before.keys()
    for name, weight in before.items():
        assert torch.equal(after[name], weight), name


def test_targets_are_all_linear_layers_of_the_language_model(base):
    pattern = lora_targets(base)
    matched = {name for name, _ in base.named_modules() if re.fullmatch(pattern, name)}
    linear = {
        name
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith("model.language_model.")
    }
    assert matched == linear
    assert len(matched) == 2 * 7


def test_loss_that_is_no_number_ends_the_training(make_job):
    with pytest.raises(PrefmillError, match=r"the loss is (nan|inf) at step \d .*learning rate 1e\+25") as caught:
        build_trainer(make_job(learning_rate=1e25, max_gradient_norm=1e30, schedule="constant")).train()
    assert caught.value.fix == "lower learning_rate below 1e+25, or set precision=float32"


def test_dropout_is_off_unless_asked_for(make_job):
    """`lora_dropout` acts only with disable_dropout=False, as the settings say."""

    def dropouts(**changes):
        model = build_trainer(make_job(**changes)).adapted_model
        return {module.p for name, module in model.named_modules() if "lora_dropout" in name and hasattr(module, "p")}

    assert dropouts() == {0}
    assert dropouts(disable_dropout=False) == {0.05}


@pytest.mark.parametrize("name", LOSSES)
def test_menu_says_which_losses_smoothing_changes(make_job, name):
    """Smoothing acts on a loss of TRL's exactly where the menu says that it takes some."""
    smoothing = 0.1 if LOSSES[name] == "needs some" else 0.0
    trainer = adapted_trainer(make_job(batch_size=2, loss=name, label_smoothing=smoothing))
    batch = trainer.data_collator([trainer.train_dataset[0], trainer.train_dataset[1]])

    def loss(smoothing):
        trainer.label_smoothing = smoothing
        with torch.no_grad():
            return trainer.compute_loss(trainer.adapted_model, dict(batch)).item()

    assert (loss(0.1) != loss(0.3)) == (LOSSES[name] != "takes none")
