"""The report on images, rewards and picks, on a tiny random model."""

import math

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.compile.precision_report import report, write_report
from prefmill.engine.artifact import MANIFEST, Artifact, Identity
from prefmill.engine.scorers.interface import ImageScorer, ImageScores
from prefmill.engine.sd3.text_to_image import TextToImage
from prefmill.engine.settings import EngineSettings

PROMPTS = ["a red kite over the sea", "a blue boat at dawn"]
SCALES = [3.0, 5.0, 7.0, 9.0]


class Brightness(ImageScorer):
    """Scores an image by its mean red, less what its prompt is long: numbers that can be made again."""

    def preprocess(self, images):
        return torch.as_tensor(images).float()

    def score(self, pixels, prompts):
        lengths = torch.tensor([float(len(prompt)) for prompt in prompts])
        return ImageScores(pixels[:, 0].mean((1, 2)) - lengths, [False] * len(prompts))


@pytest.fixture(scope="module")
def eager():
    return TextToImage.from_pretrained("random:text-to-image", EngineSettings(device="cpu"))


@pytest.fixture(scope="module")
def perturbed(eager):
    """The same, with a decoder whose last layer is not quite the same."""
    other = TextToImage.from_pretrained("random:text-to-image", EngineSettings(device="cpu"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in other.autoencoder.decoder.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
    return other


def test_the_same_engine_differs_in_nothing(eager):
    found = report(eager, eager, Brightness(), PROMPTS, SCALES, steps=2)
    assert (found.psnr, found.worst_psnr) == (None, None)
    assert (found.reward_drift, found.reward_bias, found.pick_agreement, found.failed) == (0.0, 0.0, 1.0, 0)
    assert found.reward_spread > 0
    assert (found.backend, found.precision, found.prompts) == ("eager", "float32", 2)


def test_another_engine_differs_by_what_is_computed_by_hand(eager, perturbed):
    found = report(eager, perturbed, Brightness(), PROMPTS, SCALES, steps=2, first_seed=5)
    side = eager.default_size
    errors, drifts, picks = [], [], []
    for number, prompt in enumerate(PROMPTS):
        seeds = range(5 + 4 * number, 9 + 4 * number)
        drawn = [
            one.generate([prompt] * 4, SCALES, list(seeds), steps=2, width=side, height=side).images.double()
            for one in (eager, perturbed)
        ]
        errors += [float((mine - theirs).square().mean()) for mine, theirs in zip(*drawn, strict=True)]
        reds = [one[..., 0].mean((1, 2)) for one in drawn]
        drifts += (reds[1] - reds[0]).tolist()
        picks.append(int(reds[0].argmax()) == int(reds[1].argmax()))
    assert found.psnr == pytest.approx(10 * math.log10(255**2 / (sum(errors) / 8)))
    assert found.worst_psnr == pytest.approx(10 * math.log10(255**2 / max(errors)))
    assert (found.worst_psnr or 0) < (found.psnr or 0) < 60
    assert found.reward_drift == pytest.approx(sum(map(abs, drifts)) / 8, rel=1e-4)
    assert found.reward_bias == pytest.approx(sum(drifts) / 8, rel=1e-3)
    assert found.pick_agreement == sum(picks) / 2


def test_an_engine_that_overflows_is_counted_and_loses_its_picks(eager):
    broken = TextToImage.from_pretrained("random:text-to-image", EngineSettings(device="cpu"))
    with torch.no_grad():
        broken.autoencoder.decoder.conv_out.bias.fill_(math.nan)
    found = report(eager, broken, Brightness(), PROMPTS[:1], SCALES[:2], steps=1)
    assert found.failed == 2
    assert 0 < (found.psnr or 0) < 20


def test_a_report_needs_something_to_pick_from(eager):
    with pytest.raises(PrefmillError, match="1 guidance scales leave nothing to pick"):
        report(eager, eager, Brightness(), PROMPTS, [5.0])


def test_it_is_kept_in_the_manifest(eager, tmp_path):
    identity = Identity(
        network="toy", specification="", source="", weights="", precision="int8", backend="onnxruntime", versions={}
    )
    artifact = Artifact(
        identity=identity, targets=(), ranges={}, files={}, build_seconds=0, peak_bytes=0, created="", notes={"a": 1}
    )
    found = report(eager, eager, Brightness(), PROMPTS[:1], SCALES[:2], steps=1)
    write_report(tmp_path, artifact, found)
    kept = Artifact.model_validate_json((tmp_path / MANIFEST).read_bytes())
    assert kept.notes["a"] == 1
    assert kept.notes["precision_report"]["pick_agreement"] == 1.0
    assert kept.key == artifact.key, "what is noted changes no name"
