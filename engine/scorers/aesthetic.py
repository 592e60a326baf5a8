"""An aesthetic predictor as a scorer: how pleasing an image is, whatever its prompt; linear over CLIP's image features.

A folder holds the CLIP and the predictor beside it, in either published form: `weight` and `bias` (LAION's
aesthetic-predictor), or `layers.N.weight` and `layers.N.bias` (the improved one: five linear layers with nothing
between them but dropout, which is one affine map, so they are folded into one).
"""

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import CLIPModel

from ...base.errors import PrefmillError
from ..backends.catalogue import make_runner
from ..checkpoint import checkpoint_key, load_strict
from ..device import resolve_device, resolve_weights_dtype
from ..image_inputs import ImagePreprocessing
from ..network import Network
from ..networks.linear_heads import fold_layers
from ..settings import EngineSettings
from ..sources import resolve_checkpoint
from .clip import embed_images, image_inputs
from .interface import ImageScorer

_SUFFIXES = (".safetensors", ".pth", ".pt")
_CLIP_FILES = re.compile(r"model(-\d+-of-\d+)?\.safetensors")


class AestheticScorer(ImageScorer):
    """A loaded CLIP with an aesthetic head; scores are the predictor's, mostly between 1 and 10."""

    def __init__(
        self,
        model: CLIPModel,
        head: torch.nn.Linear,
        key: str,
        inputs: ImagePreprocessing,
        *,
        settings: EngineSettings | None = None,
    ) -> None:
        self.model = model
        self.head = head
        self.key = key
        self.inputs = inputs
        both = torch.nn.ModuleList([model, head])
        self.runner = make_runner(Network("aesthetic", both, _rate, image_inputs(inputs.size), ("scores",)), settings)

    @classmethod
    def from_pretrained(cls, source: str, settings: EngineSettings | None = None) -> Self:
        """Load from a folder or hub id, strictly. Raises PrefmillError for whatever does not fit."""
        settings = settings or EngineSettings()
        device = resolve_device(settings)
        folder = resolve_checkpoint(source)
        model = load_strict(CLIPModel, folder, dtype=resolve_weights_dtype(settings, device))
        head = load_aesthetic_head(folder, model.visual_projection.out_features)
        model.to(device)  # type: ignore[arg-type]  # the stub of `to` is that of a decorated function
        vision = cast(Any, model.config.vision_config)  # a dictionary only in JSON
        inputs = ImagePreprocessing.of_folder(folder, int(vision.image_size))
        return cls(model, head.to(device), checkpoint_key(folder, "aesthetic"), inputs, settings=settings)

    def score_pixels(self, pixels: torch.Tensor, prompts: Sequence[str]) -> tuple[torch.Tensor, list[bool]]:
        values = self.runner.run({"pixels": pixels.to(self.runner.device, self.runner.dtype)})["scores"]
        return values, [False] * len(prompts)  # the prompt is not read, so none of it is cut


def _rate(both: torch.nn.ModuleList, pixels: torch.Tensor) -> torch.Tensor:
    model, head = both
    return head(embed_images(cast(CLIPModel, model), pixels)).squeeze(-1)


def load_aesthetic_head(folder: Path, width: int) -> torch.nn.Linear:
    """The predictor of a folder as one linear layer `width` -> 1, float32.

    Raises PrefmillError where there is none, more than one, or one of another width.
    """
    files = [
        path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES and not _CLIP_FILES.fullmatch(path.name)
    ]
    if len(files) != 1:
        found = ", ".join(path.name for path in files) or "none"
        raise PrefmillError(
            f"{folder} must hold one aesthetic head beside the CLIP, found {found}.",
            "put aesthetic.safetensors, or the published .pth file, into the folder of the CLIP",
        )
    weight, bias = _affine(files[0], _load(files[0]))
    if tuple(weight.shape) != (1, width) or tuple(bias.shape) != (1,):
        raise PrefmillError(
            f"the aesthetic head {files[0]} is {list(weight.shape)}, not [1, {width}].",
            "use the head that was trained on this CLIP",
        )
    head = torch.nn.Linear(width, 1)
    head.load_state_dict({"weight": weight, "bias": bias})
    return head.eval().requires_grad_(False)


def _load(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise PrefmillError(f"{path} is truncated or no weight file.", "download it again") from error


def _affine(path: Path, state: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    if state.keys() == {"weight", "bias"}:
        return state["weight"].float(), state["bias"].float()
    numbers = sorted({int(found[1]) for key in state if (found := re.fullmatch(r"layers\.(\d+)\.(weight|bias)", key))})
    if not numbers or len(state) != 2 * len(numbers):
        raise PrefmillError(
            f"{path} holds {', '.join(sorted(state)[:6])}, which is no aesthetic head.",
            "use a file with weight and bias, or with layers.N.weight and layers.N.bias",
        )
    return fold_layers(state, "layers.", numbers)
