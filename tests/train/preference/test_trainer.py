"""Trainings without a launcher: TRL's curve, precision that acts, and caches that are right or not used."""

import json
import math
from dataclasses import replace

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.checkpoint import load_strict
from prefmill.train import trl_backend
from prefmill.train.adapter import lora_targets
from prefmill.train.checkpoints import Checkpoint, CheckpointNotes, CheckpointRecord
from prefmill.train.data import load_pairs
from prefmill.train.events import STATUS
from prefmill.train.preference import backend
from prefmill.train.preference.cache import ReferenceCache, VisionCache
from prefmill.train.preference.trainer import build_trainer
from transformers import LlavaForConditionalGeneration

KEYS = (
    *("loss", "grad_norm", "learning_rate", "epoch", "entropy", "mean_token_accuracy", "logps/chosen"),
    *("logps/rejected", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"),
)
# 6 pairs in micro-batches of 4 and 2: a step's two are of unequal size, and TRL takes the mean of their means
LONG = {"batch_size": 4, "accumulation": 2, "sft_weight": 0.2, "warmup_ratio": 0.1}


def curve(trainer):
    lines = [line for line in trainer.state.log_history if "loss" in line]
    return torch.tensor([[line[key] for key in KEYS] for line in lines], dtype=torch.float64)


def trained(build, job):
    trainer = build(job)
    trainer.train()
    return trainer


def notes_of(trainer):
    return next(one for one in trainer.callback_handler.callbacks if hasattr(one, "notes")).notes


@pytest.fixture(scope="module")
def curves():
    """Curves that several tests look at, by name."""
    return {}


@pytest.mark.parametrize(("precision", "steps"), [("float32", 10), ("bfloat16", 4)])
def test_curve_is_that_of_trl(make_job, run_folder, curves, precision, steps):
    """Equal settings: float32 to rounding, bfloat16 to its own; equal adapters at the end.

    Among the pairs are one with equal answers and one with an empty answer, which TRL trains on as well.
    """
    pairs = load_pairs(run_folder)
    pairs[1], pairs[2] = replace(pairs[1], rejected=pairs[1].chosen), replace(pairs[2], rejected="")
    settings = {**LONG, "max_steps": steps, "schedule": "constant", "pairs": pairs}
    ours = trained(build_trainer, make_job("ours", precision, **settings))
    theirs = trained(trl_backend.build_trainer, make_job("theirs", precision, **settings))
    found, expected = curve(ours), curve(theirs)
    curves[precision] = found
    assert found.shape == (steps, len(KEYS))
    loss, allowed = expected[:, 0], 1e-5 if precision == "float32" else 1e-2
    assert loss[0] - loss[-1] > 0.1, "the losses must move for their equality to mean something"
    assert (found[:, 0] - loss).abs().max() < allowed
    assert (found - expected).abs().div(expected.abs() + 1).max() < 2 * allowed
    weights, others = (
        {name: weight for name, weight in trainer.adapted_model.named_parameters() if weight.requires_grad}
        for trainer in (ours, theirs)
    )
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        assert (weight - others[name]).abs().max() < allowed, name
        assert weight.dtype == others[name].dtype


@pytest.mark.parametrize("loss", ["exo_pair", "nca_pair", "bco_pair", "sppo_hard", "discopop", "sft"])
def test_other_losses_are_trls(make_job, loss):
    """Loss, gradient norm and metrics of steps that move, micro-batches of unequal size included."""
    settings = {"batch_size": 4, "accumulation": 2, "max_steps": 3, "schedule": "constant", "loss": loss}
    settings |= {"label_smoothing": 0.01 if loss == "exo_pair" else 0.0}
    ours, theirs = (
        trained(build, make_job(name, **settings))
        for name, build in (("ours", build_trainer), ("theirs", trl_backend.build_trainer))
    )
    found, expected = curve(ours), curve(theirs)
    assert found.shape == (3, len(KEYS))
    assert (expected[1:, 0] - expected[0, 0]).abs().min() > 1e-4, "the losses must move"
    assert (found - expected).abs().div(expected.abs() + 1).max() < 2e-5


def test_bfloat16_acts(curves):
    """Autocast reaches the whole pass: a loss outside it would equal float32's to the last digit."""
    if len(curves) < 2:
        pytest.skip("needs both curves of the test above")
    difference = (curves["float32"][:4, 0] - curves["bfloat16"][:4, 0]).abs()
    assert difference[1:].min() > 1e-6
    assert difference.max() < 0.05


SHORT = {"batch_size": 3, "accumulation": 1, "max_steps": 2}


def test_a_filled_cache_is_used_and_changes_nothing(make_job, tmp_path, monkeypatch):
    """A second training with another seed computes no feature and no reference again; a damaged file is made anew."""
    settings = {**SHORT, "cache": str(tmp_path / "cache")}
    first = trained(build_trainer, make_job("first", **settings))
    files = sorted((tmp_path / "cache").rglob("*.safetensors")) + sorted((tmp_path / "cache").rglob("logps-*.json"))
    assert len(files) == 6 + 1
    before = {path: path.read_bytes() for path in files}
    files[0].write_bytes(before[files[0]][:-1])
    made, asked = [], []
    put, reference_put = VisionCache.put, ReferenceCache.put
    monkeypatch.setattr(VisionCache, "put", lambda self, *args: (made.append(args[0]), put(self, *args)))
    monkeypatch.setattr(ReferenceCache, "put", lambda self, *args: (asked.append(args[0]), reference_put(self, *args)))
    second = trained(build_trainer, make_job("second", **settings))
    assert files[0].stem in made
    assert any("damaged files made again: 1" in note for note in notes_of(second))
    assert asked == []
    assert {path: path.read_bytes() for path in files} == before
    assert torch.equal(curve(first), curve(second))


def test_features_over_the_budget_are_made_anew(make_job):
    """The same curve from pixels; it is said and recorded."""
    cached = trained(build_trainer, make_job("cached", **SHORT))
    job = make_job("pixels", cache_gigabytes=0, **SHORT)
    anew = build_trainer(job)
    anew.train()
    assert anew.batches.vision is None
    torch.testing.assert_close(curve(anew), curve(cached), rtol=1e-5, atol=1e-6)
    assert any("6 images are made anew for every step" in note for note in notes_of(anew))
    assert not list(job.cache.rglob("*.safetensors"))


@pytest.mark.parametrize("pair", [0, 3], ids=["first-pair", "another-pair"])
def test_a_cache_with_other_numbers_stops_the_training(make_job, tmp_path, pair):
    """Numbers of another model under the right name: the first pair is proven, the others by the first loss."""
    settings = {**SHORT, "batch_size": 6, "cache": str(tmp_path / "cache")}
    trainer = trained(build_trainer, make_job("first", **settings))
    key = trainer.batches.keys(trainer.job.pairs[pair])[0]
    (folder,) = {path.parent for path in (tmp_path / "cache").rglob("logps-*.json")}
    cache = ReferenceCache(folder, 0)
    cache.load()
    cache.put(key, cache.get(key) - 5)
    cache.save()
    words = "in a row of its own" if pair == 0 else r"a fresh adapter is not the reference.*the first loss is 0\.\d+"
    with pytest.raises(PrefmillError, match=words):
        trained(build_trainer, make_job("second", **settings))


def test_precision_is_part_of_the_name(make_job, tmp_path):
    """A float32 reference under a bfloat16 policy would start beside ln 2."""
    settings = {**SHORT, "cache": str(tmp_path / "cache")}
    for precision in ("float32", "bfloat16"):
        trainer = trained(build_trainer, make_job(precision, precision, **settings))
        assert curve(trainer)[0, 0].item() == pytest.approx(math.log(2), abs=1e-6)
    keys = [json.loads(path.read_text()) for path in (tmp_path / "cache").rglob("key.json")]
    assert sorted((key["kind"], key["precision"]) for key in keys) == [
        *(("reference", "bfloat16"), ("reference", "float32"), ("vision", "bfloat16"), ("vision", "float32"))
    ]


def test_a_loss_that_is_no_number_names_its_pair(make_job):
    job = make_job(learning_rate=1e25, max_gradient_norm=1e30, schedule="constant", batch_size=1)
    ids = "|".join(pair.id for pair in job.pairs)
    with pytest.raises(PrefmillError, match=rf"the loss of pair ({ids}) is (nan|inf) at step \d") as caught:
        build_trainer(job).train()
    assert caught.value.fix == "lower learning_rate below 1e+25, or set precision=float32"


def test_a_loss_it_does_not_have_is_trained_by_trl(make_job, monkeypatch):
    """It is said, and handed over for the manifest."""
    handed = []
    monkeypatch.setattr(trl_backend, "train", lambda job, notes: handed.append((job, notes)))
    job = make_job(loss="aot")
    backend.train(job)
    assert len(handed) == 1
    text = "trained by TRL instead of backend=shared: it has no loss aot"
    assert handed[0][1][0].startswith(text)
    assert (job.output / STATUS).read_text().startswith(text)
    job = make_job()
    assert backend.unsupported(job.config, job.model_folder) is None


def test_pairs_with_exchanged_sides_find_the_reference(make_job, run_folder, tmp_path, monkeypatch):
    """An answer is read once by the reference, whichever pairs have it and on whichever side."""
    cache = str(tmp_path / "cache")
    trained(build_trainer, make_job("first", cache=cache, **SHORT))
    asked = []
    put = ReferenceCache.put
    monkeypatch.setattr(ReferenceCache, "put", lambda self, *args: (asked.append(args[0]), put(self, *args)))
    pairs = [replace(one, chosen=one.rejected, rejected=one.chosen) for one in load_pairs(run_folder)]
    trained(build_trainer, make_job("second", pairs=pairs, cache=cache, **SHORT))
    assert asked == []
    pairs[0] = replace(pairs[0], chosen="Another answer.")
    trained(build_trainer, make_job("third", pairs=pairs, cache=cache, **SHORT))
    assert len(asked) == 1


def test_batch_larger_than_the_data_takes_all_of_it(make_job):
    trainer = trained(build_trainer, make_job(batch_size=50, accumulation=3, max_steps=None, epochs=2))
    assert trainer.state.global_step == 2
    tokens = 2 * trainer.batches(trainer.job.pairs)["tokens"]
    assert sum(line["tokens"] for line in trainer.state.log_history if "loss" in line) == tokens


@pytest.mark.parametrize(("fact", "was"), [("name", "trl"), ("attention", "mask")])
def test_another_way_of_computing_is_refused_on_resume(make_job, backend, tmp_path, fact, was):
    """A library's new version may bring another attention or end a fallback: no setting has changed then."""
    job = make_job()
    plain = load_strict(LlavaForConditionalGeneration, job.model_folder)
    now = {"name": "shared", "attention": "pairs", "lora_targets": lora_targets(plain)}

    def resumed(facts):
        notes = CheckpointNotes(seconds=1, backend=backend.model_copy(update=facts))
        return replace(job, resume=Checkpoint(tmp_path, CheckpointRecord(step=2, steps=4, notes=notes, files={})))

    build_trainer(resumed(now))
    with pytest.raises(PrefmillError, match=f"{fact} was '{was}', now '{now[fact]}'"):
        build_trainer(resumed(now | {fact: was}))
