"""mDPO's whole loss (arXiv 2406.11839) in one row, against separate forwards of the model alone, in float64."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.kernels.logprob import TokenStatistics
from prefmill.train.preference import backend
from prefmill.train.preference.cache import ReferenceCache, VisionCache
from prefmill.train.preference.layout import lay_out
from prefmill.train.preference.objective import metric_names, objective, pair_columns, sums
from prefmill.train.preference.scorer import as_scorer, model_inputs
from prefmill.train.preference.trainer import build_trainer
from prefmill.train.settings import DPOTrainingConfig
from torch.nn.functional import logsigmoid

BETA = 0.3
TERMS = {"beta": BETA, "image_weight": 0.7, "anchor_weight": 0.4, "anchor_margin": 0.2}
SHORT: dict[str, Any] = {"batch_size": 3, "accumulation": 1, "max_steps": 2}


@pytest.fixture(scope="module")
def pixels():
    """Of three images, and of the three corrupted ones."""
    return torch.randn(6, 3, 56, 56, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def gradients(policy, loss):
    policy.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in policy.named_parameters() if weight.requires_grad}


def alone(policy, prefix, answer, skipped, pixels):
    """Log-probabilities of an answer's tokens, in a sequence of its own, over the whole vocabulary."""
    ids = torch.tensor([[*prefix, *answer]])
    logits = policy(input_ids=ids, pixel_values=pixels[None]).logits[0, :-1]
    return logits.log_softmax(-1).gather(1, ids[0, 1:, None])[len(prefix) + skipped - 1 :, 0]


@pytest.fixture(scope="module")
def separate(policy: Any, tokens, pixels):
    """By hand, for weights of the pairs or None: tokens' log-probabilities, the reference's sums, loss, gradients."""
    policy.get_base_model().get_decoder().set_attn_implementation("sdpa")

    def every():
        return [
            *(alone(policy, one.prefix, one.chosen, one.chosen_skipped, pixels[row]) for row, one in enumerate(tokens)),
            *(
                alone(policy, one.prefix, one.rejected, one.rejected_skipped, pixels[row])
                for row, one in enumerate(tokens)
            ),
            *(
                alone(policy, one.prefix, one.chosen, one.chosen_skipped, pixels[3 + row])
                for row, one in enumerate(tokens)
            ),
        ]

    with torch.no_grad(), policy.disable_adapter():
        reference = torch.stack([part.sum() for part in every()])

    def loss(weights):
        found = every()
        chosen, rejected, corrupted = (torch.stack([part.sum() for part in found]) - reference).split(3)
        per_pair = (
            -logsigmoid(BETA * (chosen - rejected))
            - 0.7 * logsigmoid(BETA * (chosen - corrupted))
            - 0.4 * logsigmoid(BETA * chosen - 0.2)
        )
        value = (per_pair * weights).mean()
        return torch.cat(found).detach(), value.item(), gradients(policy, value)

    return reference, {name: loss(weights) for name, weights in WEIGHTS.items()}


WEIGHTS = {"equal": torch.ones(3, dtype=torch.float64), "weighted": torch.tensor([0.25, 2, 0.75], dtype=torch.float64)}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("way", ["pairs", "mask"])
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "row-each"])
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "pixels"])
def test_equals_separate_forwards(policy, tokens, pixels, separate, way, packed, cached, weights):
    scorer: Any = as_scorer(policy.get_base_model(), way)
    layout = lay_out(tokens, 0, packed=packed, branches=[one.branch for one in tokens])
    inputs = model_inputs(layout, way)
    images = {"image_features": scorer.image_features(pixel_values=pixels)} if cached else {"pixel_values": pixels}
    reference, by_hand = separate
    logps, loss, wanted = by_hand[weights]
    with torch.no_grad(), policy.disable_adapter():
        found = sums(TokenStatistics(*policy(**inputs, **images)), layout.segments, 3, blocks=3)
    assert (found - reference).abs().max() < 1e-11
    statistics = TokenStatistics(*policy(**inputs, **images))
    assert (statistics.logp - logps).abs().max() < 1e-12
    given = WEIGHTS["weighted"] if weights == "weighted" else None
    config = DPOTrainingConfig.model_validate({**TERMS, "backend": "shared"})
    got = objective(statistics, layout.segments, layout.chosen_tokens, reference, config, given)
    assert got.loss.item() == pytest.approx(loss, rel=1e-11)
    for name, gradient in gradients(policy, got.loss).items():
        assert wanted[name].abs().max() > 0
        assert (gradient - wanted[name]).abs().max() < 1e-6 * wanted[name].abs().max(), name


def test_the_branch_and_the_pairs_do_not_see_each_other(policy, tokens, pixels):
    """Other corrupted images change the branches alone; without branches the pairs have the same numbers."""
    as_scorer(policy.get_base_model(), "pairs")
    layout = lay_out(tokens, 0, packed=True, branches=[one.branch for one in tokens])
    usual = lay_out(tokens, 0, packed=True)
    pairs = len(usual.targets)
    with torch.no_grad():
        logps = policy(**model_inputs(layout, "pairs"), pixel_values=pixels).logp
        other = policy(**model_inputs(layout, "pairs"), pixel_values=torch.cat([pixels[:3], pixels[:3]])).logp
        without = policy(**model_inputs(usual, "pairs"), pixel_values=pixels[:3]).logp
    assert (logps[:pairs] - other[:pairs]).abs().max() < 1e-12
    assert (logps[:pairs] - without).abs().max() < 1e-12
    assert (logps[pairs:] - other[pairs:]).abs().max() > 1e-3
    # with the image itself, the branch's answer is the chosen one again
    assert (other[pairs:] - other[: layout.chosen_tokens]).abs().max() < 1e-12


def test_metrics_say_what_the_image_does(policy, tokens, pixels, separate):
    as_scorer(policy.get_base_model(), "pairs")
    layout = lay_out(tokens, 0, packed=True, branches=[one.branch for one in tokens])
    reference, by_hand = separate
    with torch.no_grad():
        statistics = TokenStatistics(*policy(**model_inputs(layout, "pairs"), pixel_values=pixels))
    config = DPOTrainingConfig.model_validate({**TERMS, "backend": "shared"})
    got = objective(statistics, layout.segments, layout.chosen_tokens, reference, config)
    found = dict(zip(metric_names(config), got.metrics.tolist(), strict=True))
    lengths = [int((layout.segments == one).sum()) for one in range(9)]
    chosen, rejected, corrupted = (
        torch.stack([part.sum() for part in by_hand["equal"][0].split(lengths)]) - reference
    ).split(3)
    assert found["rewards/image_margins"] == pytest.approx(BETA * (chosen - corrupted).mean().item())
    assert found["rewards/image_accuracies"] == pytest.approx((chosen > corrupted).double().mean().item())
    assert found["rewards/margins"] == pytest.approx(BETA * (chosen - rejected).mean().item())
    assert found["entropy"] == pytest.approx(statistics.entropy[: sum(lengths[:6])].mean().item())
    columns = dict(zip(pair_columns(config), got.columns.T, strict=True))
    assert columns["rewards/image_margins"].tolist() == pytest.approx((BETA * (chosen - corrupted)).tolist())
    assert columns["chosen_tokens"].tolist() == lengths[:3]


def curve(trainer, *keys):
    return [[line[key] for key in keys] for line in trainer.state.log_history if "loss" in line]


def trained(job):
    trainer = build_trainer(job)
    trainer.train()
    return trainer


@pytest.mark.parametrize("kind", ["crop", "other"])
def test_a_training_starts_at_the_reference_and_learns_to_look(make_job, kind):
    """The first loss is (1 + w_i) ln 2 - w_a log s(-margin); the branch's tokens are stated apart."""
    settings: dict[str, Any] = {**TERMS, "image_negative": kind, "schedule": "constant", "batch_size": 3}
    trainer = trained(make_job(accumulation=2, max_steps=8, **settings))
    keys = ("loss", "rewards/image_margins", "tokens", "image_branch_tokens")
    lines = curve(trainer, *keys)
    assert lines[0][:2] == pytest.approx([1.7 * math.log(2) + 0.4 * math.log(1 + math.exp(0.2)), 0], abs=1e-6)
    assert lines[-1][0] < lines[0][0] - 0.2
    assert lines[-1][1] > 0.05
    tokens = [trainer.batches.tokens(pair) for pair in trainer.job.pairs]
    branch = sum(len(one.prefix) + len(one.chosen) for one in tokens)
    whole = branch + sum(sum(one.spans) for one in tokens)
    assert [line[2:] for line in lines] == [[whole, branch]] * 8  # a step is the six pairs
    reporter: Any = next(one for one in trainer.callback_handler.callbacks if hasattr(one, "notes"))
    assert any(f"the image term reads {branch} tokens" in note and f"({kind})" in note for note in reporter.notes)


def test_pixels_give_what_cached_features_give(make_job):
    settings: dict[str, Any] = {**TERMS, **SHORT}
    keys = ("loss", "rewards/image_margins", "grad_norm", "entropy")
    cached = curve(trained(make_job("cached", **settings)), *keys)
    anew = curve(trained(make_job("pixels", cache_gigabytes=0, **settings)), *keys)
    for line, other in zip(cached, anew, strict=True):
        assert line == pytest.approx(other, rel=1e-4, abs=1e-6)


def test_an_anchor_alone_reads_nothing_more(make_job):
    trainer = trained(make_job(anchor_weight=1, **SHORT))
    (line, *_) = curve(trainer, "loss")
    assert line == pytest.approx([2 * math.log(2)], abs=1e-6)
    assert not any("image_branch_tokens" in line for line in trainer.state.log_history)


def test_caches_of_other_negatives_are_not_met(make_job, tmp_path, monkeypatch):
    """Features and both answers are shared with a training without the term; what was corrupted otherwise is not."""
    made, asked = [], []
    put, reference_put = VisionCache.put, ReferenceCache.put
    monkeypatch.setattr(VisionCache, "put", lambda self, *args: (made.append(args[0]), put(self, *args)))
    monkeypatch.setattr(ReferenceCache, "put", lambda self, *args: (asked.append(args), reference_put(self, *args)))
    cache = str(tmp_path / "cache")
    counts = []
    for number, changes in enumerate(
        [
            {},
            {"image_weight": 1},
            {"image_weight": 0.5},
            {"image_weight": 1, "seed": 43},
            {"image_weight": 1, "image_negative": "noise"},
            {},
        ]
    ):
        trained(make_job(str(number), cache=cache, **SHORT, **changes))
        counts.append((len(made), len(asked)))
        made.clear()
        asked.clear()
    assert counts == [(6, 12), (6, 6), (0, 0), (6, 6), (6, 6), (0, 0)]


def test_a_wrong_number_of_the_branch_stops_the_training(make_job, tmp_path):
    settings: dict[str, Any] = {**SHORT, "batch_size": 6, "image_weight": 1, "cache": str(tmp_path / "cache")}
    trainer = trained(make_job("first", **settings))
    (folder,) = {path.parent for path in (tmp_path / "cache").rglob("logps-*.json")}
    for pair, words in ((0, "in a row of its own"), (3, "a fresh adapter is not the reference")):
        key = trainer.batches.keys(trainer.job.pairs[pair])[2]
        cache = ReferenceCache(folder, 0)
        cache.load()
        right = cache.get(key)
        cache.put(key, right - 5)
        cache.save()
        with pytest.raises(PrefmillError, match=words):
            trained(make_job("second", **settings))
        cache.put(key, right)
        cache.save()


def test_weighted_pairs_pull_as_much_as_they_count(make_job, run_folder):
    """A pair of margin 0 is as if its gradient were not there: the loss logged is the weighted mean."""
    pairs = make_job().pairs
    judged = [replace(pair, margin=margin) for pair, margin in zip(pairs, (0, 1, 2, 3, 1, 1), strict=True)]
    job = make_job("weighted", pairs=judged, margin_weight="linear", batch_size=6, accumulation=1, max_steps=3)
    trainer = trained(job)
    assert trainer.batches.weights == pytest.approx({pair.id: (pair.margin or 0) * 6 / 8 for pair in judged})
    assert curve(trainer, "loss")[0] == pytest.approx([math.log(2)], abs=1e-6)
    reporter: Any = next(one for one in trainer.callback_handler.callbacks if hasattr(one, "notes"))
    assert any("from 0 to 2.25; 1 pairs" in note for note in reporter.notes)
    plain = trained(make_job("plain", batch_size=6, accumulation=1, max_steps=3))
    assert curve(trainer, "loss")[1] != pytest.approx(curve(plain, "loss")[1], abs=1e-4)


@pytest.mark.parametrize(("loss", "terms"), [("sigmoid", TERMS), ("apo_zero", {})])
def test_a_broken_pair_is_named_with_accumulation_and_branch(make_job, monkeypatch, loss, terms):
    """In the second micro-batch of the third step, and of a loss that stays finite where a log-probability does not."""
    job = make_job(loss=loss, batch_size=1, **terms)
    trainer = build_trainer(job)
    seen: list[str] = []
    original = trainer._objective

    def broken(model, inputs):
        if len(seen) != 5:
            return original(model, inputs)
        bad = inputs["reference"].clone()
        bad[0] = math.inf
        return original(model, {**inputs, "reference": bad})

    def counted(model, inputs):
        got = broken(model, inputs)
        seen.extend(inputs["pairs"])
        return got

    monkeypatch.setattr(trainer, "_objective", counted)
    with pytest.raises(PrefmillError) as caught:
        trainer.train()
    assert f"of pair {seen[5]} is" in caught.value.message
    assert "at step 3" in caught.value.message
    assert (job.checkpoints / "checkpoint-2" / "complete.json").exists()


def test_a_gradient_that_is_no_number_is_not_saved(make_job):
    """The loss is finite, and its gradient is not: the weights would be lost after this step, and it is a save."""
    job = make_job(batch_size=1, save_every=1, image_weight=1)
    trainer = build_trainer(job)
    weight = next(weight for weight in trainer.adapted_model.parameters() if weight.requires_grad)
    weight.register_hook(lambda gradient: gradient * (math.nan if trainer.state.global_step == 2 else 1))
    with pytest.raises(PrefmillError, match="the grad_norm is nan at step 3"):
        trainer.train()
    assert sorted(path.parent.name for path in job.checkpoints.glob("*/complete.json")) == [
        "checkpoint-1",
        "checkpoint-2",
    ]


def test_trl_alone_cannot(make_job, monkeypatch):
    """Neither by its name nor where it would stand in: nothing is left out in silence."""
    for setting in ({"image_weight": 1}, {"anchor_weight": 1}, {"margin_weight": "linear"}):
        (name,) = setting
        with pytest.raises(ValueError, match=f"backend=trl has no {name}; set backend=shared"):
            DPOTrainingConfig.model_validate({"backend": "trl", **setting})
        with pytest.raises(
            PrefmillError, match=f"{name} is for backend=shared alone, and it has no loss aot"
        ) as caught:
            backend.train(make_job(loss="aot", **setting))
        assert caught.value.fix.startswith("use a model and a loss")
