"""The scorers that the image reward is compared with: CLIP's cosine and BLIP's image-text matching.

Both are the library's own classes with their processors, so a folder of official weights loads as well.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from transformers import BlipForImageTextRetrieval, BlipProcessor, CLIPModel, CLIPProcessor

from ...base.errors import PrefmillError
from ...engine.checkpoint import checkpoint_key, load_strict
from ...engine.device import resolve_device, resolve_dtype
from ...engine.settings import EngineSettings
from ...engine.sources import resolve_checkpoint


class Comparator:
    """A scorer of images against their prompts; `key` names the weights by content."""

    def __init__(self, model: CLIPModel | BlipForImageTextRetrieval, processor: Any, key: str) -> None:
        self.model = model
        self.processor = processor
        self.key = key

    @classmethod
    def from_pretrained(cls, source: str, settings: EngineSettings | None = None) -> Self:
        """Load from a folder or hub id, strictly. Raises PrefmillError for whatever does not fit."""
        settings = settings or EngineSettings()
        device = resolve_device(settings)
        folder = resolve_checkpoint(source)
        model = cls._load(folder, resolve_dtype(settings, device))
        model.to(device)  # type: ignore[arg-type]  # the stub of `to` is that of a decorated function
        return cls(model, cls._load_processor(folder), checkpoint_key(folder))

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> torch.Tensor:
        """Scores [B], float32 on the CPU, of B images against B prompts. Raises PrefmillError for unequal counts."""
        if len(images) != len(prompts):
            raise PrefmillError(f"{len(images)} images came with {len(prompts)} prompts.", "give one prompt per image")
        if not images:
            return torch.empty(0)
        limit = self.model.config.get_text_config().max_position_embeddings
        inputs = self.processor(
            images=[image.convert("RGB") for image in images],
            text=list(prompts),
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=limit,
        )
        moved = {
            name: value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
        }
        with torch.inference_mode():
            return self._score(moved).float().cpu()

    @classmethod
    def _load(cls, folder: Path, dtype: torch.dtype) -> Any:
        raise NotImplementedError

    @classmethod
    def _load_processor(cls, folder: Path) -> Any:
        raise NotImplementedError

    def _score(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        raise NotImplementedError


class ClipComparator(Comparator):
    """CLIP: the cosine of image and prompt."""

    @classmethod
    def _load(cls, folder: Path, dtype: torch.dtype) -> CLIPModel:
        return load_strict(CLIPModel, folder, dtype=dtype)

    @classmethod
    def _load_processor(cls, folder: Path) -> Any:
        return CLIPProcessor.from_pretrained(folder, local_files_only=True)

    def _score(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        output = self.model(**inputs)
        return (output.image_embeds * output.text_embeds).sum(-1)  # both have length 1


class MatchingComparator(Comparator):
    """BLIP's matching head: how much more likely it finds a match than none, as a difference of logits."""

    @classmethod
    def _load(cls, folder: Path, dtype: torch.dtype) -> BlipForImageTextRetrieval:
        return load_strict(BlipForImageTextRetrieval, folder, dtype=dtype)

    @classmethod
    def _load_processor(cls, folder: Path) -> Any:
        return BlipProcessor.from_pretrained(folder, local_files_only=True)

    def _score(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = self.model(**inputs, use_itm_head=True).itm_score
        return logits[:, 1] - logits[:, 0]
