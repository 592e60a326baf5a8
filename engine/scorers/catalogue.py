"""The scorers by the name that a command line or a configuration gives them. Kept free of torch until one is loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...base.errors import PrefmillError
from ..settings import EngineSettings

if TYPE_CHECKING:
    from .interface import ImageScorer


@dataclass(frozen=True)
class ScorerEntry:
    """One scorer of images: the checkpoint it takes by default, what its score means, and how it is loaded.

    `embeds`: it has an embedding of the image alone (`embed`), in which images can be compared.
    """

    checkpoint: str
    meaning: str
    load: Callable[[str, EngineSettings], "ImageScorer"]
    embeds: bool = False


def _image_reward(source: str, settings: EngineSettings) -> "ImageScorer":
    from .image_reward import ImageRewardScorer

    return ImageRewardScorer.from_pretrained(source, settings)


def _clip(source: str, settings: EngineSettings) -> "ImageScorer":
    from .clip import ClipScorer

    return ClipScorer.from_pretrained(source, settings)


def _pickscore(source: str, settings: EngineSettings) -> "ImageScorer":
    from .pickscore import PickScoreScorer

    return PickScoreScorer.from_pretrained(source, settings)


def _hpsv2(source: str, settings: EngineSettings) -> "ImageScorer":
    from .hpsv2 import HpsV2Scorer

    return HpsV2Scorer.from_pretrained(source, settings)


def _blip(source: str, settings: EngineSettings) -> "ImageScorer":
    from .blip import BlipScorer

    return BlipScorer.from_pretrained(source, settings)


def _aesthetic(source: str, settings: EngineSettings) -> "ImageScorer":
    from .aesthetic import AestheticScorer

    return AestheticScorer.from_pretrained(source, settings)


IMAGE_SCORERS: dict[str, ScorerEntry] = {
    "imagereward": ScorerEntry("THUDM/ImageReward", "human preference, mostly from -2.5 to 2.5", _image_reward),
    "clip": ScorerEntry("openai/clip-vit-large-patch14", "cosine of image and prompt, from -1 to 1", _clip, True),
    "blip": ScorerEntry("Salesforce/blip-itm-large-coco", "log-odds that image and prompt match", _blip),
    "pickscore": ScorerEntry("yuvalkirstain/PickScore_v1", "people's choice, a logit of about 20", _pickscore, True),
    "hpsv2": ScorerEntry("xswu/HPSv2", "people's choice, mostly from 14 to 35", _hpsv2, True),
    "aesthetic": ScorerEntry("", "how pleasing the image is, whatever the prompt; mostly from 1 to 10", _aesthetic),
}
"""By name. An empty checkpoint means that none is published in one folder, and one must be named."""

TEXT_SCORER = "armorm"
TEXT_CHECKPOINT = "RLHFlow/ArmoRM-Llama3-8B-v0.1"
"""The scorer of answers, which reads no image, goes by this name beside the scorers of images."""


def load_image_scorer(name: str, source: str | None = None, settings: EngineSettings | None = None) -> "ImageScorer":
    """Load the scorer `name` from `source`, or from its default checkpoint.

    Raises PrefmillError for an unknown name, a scorer without a default checkpoint, and whatever does not load.
    """
    if name not in IMAGE_SCORERS:
        raise PrefmillError(f"there is no image scorer {name!r}.", f"choose one of {', '.join(IMAGE_SCORERS)}")
    entry = IMAGE_SCORERS[name]
    if not (source or entry.checkpoint):
        raise PrefmillError(
            f"the scorer {name!r} has no published folder.",
            f"--model {name}=FOLDER, a folder that holds a CLIP and the head's weights beside it",
        )
    return entry.load(source or entry.checkpoint, settings or EngineSettings())


def load_mixture(weights: Mapping[str, float], sources: Mapping[str, str], settings: EngineSettings) -> "ImageScorer":
    """Load several scorers as one, with the weights of their scores. Raises PrefmillError as `load_image_scorer` does.

    `sources` are checkpoints by name, where not the default ones are meant.
    """
    from .mixture import MixtureScorer

    parts = {name: load_image_scorer(name, sources.get(name), settings) for name in sorted(weights)}
    return MixtureScorer(parts, weights)
