"""Convert the official ImageReward folder (ImageReward.pt, med_config.json) to one that loads like any other model.

    python -m prefmill.engine.scorers.image_reward_conversion THUDM/ImageReward image-reward

The result holds config.json, model.safetensors with the head folded, and the tokenizer, so that loading it needs no
network and no pickle.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from ...base.errors import PrefmillError
from ..quiet import quiet_loading
from ..settings import EngineSettings
from ..sources import resolve_checkpoint
from .image_reward import ImageRewardScorer


def convert_image_reward(source: str, to: Path) -> str:
    """Write the checkpoint `source` (a folder or hub id) into the new folder `to`, whole or not at all; its key.

    Raises PrefmillError where `to` exists and for whatever does not load.
    """
    if to.exists():
        raise PrefmillError(f"{to} exists already.", "name a new folder, or delete this one")
    settings = EngineSettings(device="cpu", dtype="float32")
    scorer = ImageRewardScorer.from_pretrained(str(resolve_checkpoint(source)), settings)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".converting-", dir=to.parent) as temporary:
        fresh = Path(temporary) / "fresh"
        with quiet_loading():
            scorer.model.save_pretrained(fresh)
            scorer.tokenizer.save_pretrained(fresh)
        fresh.rename(to)
    return ImageRewardScorer.from_pretrained(str(to), settings).key


def main() -> int:
    """Convert from the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Convert the official ImageReward to safetensors.")
    parser.add_argument("source", help="a folder with ImageReward.pt and med_config.json, or a hub id")
    parser.add_argument("to", type=Path, help="the new folder")
    given = parser.parse_args()
    try:
        print(convert_image_reward(given.source, given.to))
    except PrefmillError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
