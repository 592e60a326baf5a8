"""A training as a worker does it: the checkpoint, the cache, the best weights, and what cannot be trained."""

import shutil

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.engine.scorers.image_reward import ImageRewardScorer, load_image_reward
from prefmill.train.data import RunImages
from prefmill.train.events import METRICS, MetricsFile
from prefmill.train.reward.data import compared_prompts, load_preferences, split_preferences
from prefmill.train.reward.manifest import check_reward, read_reward_manifest
from prefmill.train.reward.network import RewardNetwork
from prefmill.train.reward.start import load_start

from .conftest import ASPECTS


def scored(output, run, preferences):
    """The scorer's values and parts of all images of some preferences, by image."""
    scorer, images = ImageRewardScorer.from_pretrained(str(output / "reward")), RunImages(run)
    found = {}
    for prompt in compared_prompts(preferences):
        pixels = scorer.preprocess([images.load(image) for image in prompt.images])
        scores = scorer.score(pixels, [prompt.text] * len(prompt.images))
        for place, image in enumerate(prompt.images):
            found[image] = (
                scores.values[place].item(),
                {name: part[place].item() for name, part in scores.parts.items()},
            )
    return found


def test_the_checkpoint_is_a_scorer_whose_aspects_come_beside_it(trained, compared_run):
    preferences, _ = split_preferences(load_preferences(compared_run, ASPECTS), 0.25)
    found = scored(trained, compared_run, preferences)
    values = torch.tensor([value for value, _ in found.values()])
    parts = torch.tensor([list(parts.values()) for _, parts in found.values()])
    assert list(next(iter(found.values()))[1]) == list(ASPECTS)
    for column in (values, *parts.T):
        assert column.mean().item() == pytest.approx(0, abs=1e-4)
        assert column.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    # an affine function of the aspects: their weighted mean before each was standardised
    design = torch.cat([parts, torch.ones(len(parts), 1)], dim=1)
    fitted = torch.linalg.lstsq(design, values[:, None]).solution
    assert (design @ fitted - values[:, None]).abs().max() < 1e-3
    assert (fitted[:2] > 0).all()


def test_the_manifest_says_what_the_scorer_does_with_what_was_held_out(trained, compared_run):
    manifest = read_reward_manifest(trained)
    assert manifest is not None
    _, held_out = split_preferences(load_preferences(compared_run, ASPECTS), 0.25)
    found = scored(trained, compared_run, held_out)
    for aspect in ASPECTS:
        own = [one for one in held_out if one.aspect == aspect]
        right = [found[one.chosen_id][1][aspect] > found[one.rejected_id][1][aspect] for one in own]
        assert manifest.validation[f"accuracy/{aspect}"] == pytest.approx(sum(right) / len(right), abs=1e-6)
    assert manifest.held_out == len(held_out)
    assert manifest.truncated_prompts == 0
    check_reward(trained)


def test_the_best_evaluation_is_kept(trained):
    manifest = read_reward_manifest(trained)
    assert manifest is not None
    losses = {line["step"]: line["eval_loss"] for line in MetricsFile(trained / METRICS).read() if "eval_loss" in line}
    assert len(losses) > 2
    assert manifest.best_step == min(losses, key=lambda step: losses[step])
    assert manifest.validation["loss"] == losses[manifest.best_step]


def test_frozen_weights_are_the_start_bit_by_bit_and_the_others_are_not(trained, blip_folder):
    start, _ = load_start(blip_folder, ASPECTS, seed=42)
    network = RewardNetwork(start, 0.7)
    after = load_image_reward(trained / "reward").state_dict()
    for name, value in network.model.named_parameters():
        if name.startswith(("head", "aspect_heads")):
            continue
        assert torch.equal(after[name], value) != value.requires_grad, name


def test_cached_features_train_as_none_do(trained, compared_run, reward_settings, train_here, tmp_path):
    config = reward_settings(aspects=ASPECTS, heads="per_aspect", batch_size=3, cache_gigabytes=0)
    manifest = train_here(compared_run, tmp_path / "output", config)
    assert any("made anew for every step" in note for note in manifest.backend.notes)
    before = read_reward_manifest(trained)
    assert before is not None
    assert any("features of 36 images after 2 frozen layers cached" in note for note in before.backend.notes)
    cached, anew = (MetricsFile(output / METRICS).read() for output in (trained, tmp_path / "output"))
    assert len(cached) == len(anew) == 8
    for one, other in zip(cached, anew, strict=True):
        for name in ("loss", "margin", "grad_norm"):
            assert one[name] == pytest.approx(other[name], abs=1e-6)
    assert cached[-1]["loss"] < cached[0]["loss"]


def test_a_damaged_feature_is_made_again(trained, compared_run, reward_settings, train_here, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(trained.parent / "cache", cache)
    victim = next(cache.rglob("*.safetensors"))
    victim.write_bytes(victim.read_bytes()[:-4] + b"\x00\x01\x02\x03")
    config = reward_settings(aspects=ASPECTS, heads="per_aspect", batch_size=3, cache=str(cache), max_steps=1)
    manifest = train_here(compared_run, tmp_path / "output", config)
    # in portions of 16, as they were made
    assert any(
        "(0.0 MB, 16 of them made now)" in note or "4 of them made now" in note for note in manifest.backend.notes
    )
    first = [MetricsFile(output / METRICS).read()[0]["loss"] for output in (trained, tmp_path / "output")]
    assert first[0] == pytest.approx(first[1], abs=1e-6)


def test_a_reward_that_is_no_number_is_named(compared_run, reward_settings, train_here, tmp_path):
    config = reward_settings(learning_rate=1e30, max_gradient_norm=1e9)
    with pytest.raises(PrefmillError, match=r"is \[nan\] at step \d|is nan at step|is inf at step") as caught:
        train_here(compared_run, tmp_path / "output", config)
    assert "lower learning_rate" in caught.value.fix


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aspects": ()}, "at least one"),
        ({"aspects": ("overall", "overall")}, "none twice"),
        ({"aspect_weights": {"overall": 1}}, "heads=per_aspect"),
        ({"heads": "per_aspect", "aspect_weights": {"fidelity": 1}}, "not among the aspects"),
        ({"save_every": 10}, "evaluations_per_epoch"),
    ],
)
def test_settings_that_contradict_each_other(reward_settings, changes, message):
    with pytest.raises(ValueError, match=message):
        reward_settings(**changes)
