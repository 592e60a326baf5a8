"""HPSv2 as a scorer: a CLIP ViT-H that was trained on people's rankings (arXiv 2306.09341); 100 times the cosine.

It is published as a state dict of open_clip, which is converted by name when it is loaded; a folder that
`save_pretrained` wrote loads as well. The original fits the whole image into the square, on black.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
    PreTrainedTokenizerBase,
)

from ...base.errors import PrefmillError
from ..checkpoint import load_strict, raise_for_report
from ..networks.open_clip import convert_open_clip_state_dict
from ..quiet import quiet_loading
from ..sources import HPSV2_FILES
from ..text import load_tokenizer
from .clip import ClipScorer

TOKENIZER = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


class HpsV2Scorer(ClipScorer):
    """A loaded HPSv2 with its tokenizer; scores are 100 times the cosine, as the original's benchmark reports them."""

    name = "hpsv2"
    letterboxed = True

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype) -> tuple[CLIPModel, PreTrainedTokenizerBase]:
        return load_hpsv2(folder, dtype), _tokenizer(folder)

    @staticmethod
    def scale_of(model: CLIPModel) -> float:
        return 100.0


def load_hpsv2(folder: Path, dtype: torch.dtype = torch.float32) -> CLIPModel:
    """Load a folder with one official file, or one written by `save_pretrained`; all weights must fit.

    Beside an official file, a config.json gives another size than the published ViT-H/14.
    Raises PrefmillError for whatever does not fit.
    """
    official = [folder / name for name in HPSV2_FILES if (folder / name).is_file()]
    if not official:
        return load_strict(CLIPModel, folder, dtype=dtype)
    if len(official) > 1:
        raise PrefmillError(f"{folder} holds HPSv2 and HPSv2.1, whose scores differ.", "keep one of the two files")
    config = CLIPConfig.from_pretrained(folder) if (folder / "config.json").is_file() else official_config()
    converted = convert_open_clip_state_dict(_state_dict(official[0]))
    with quiet_loading():
        loaded: Any = CLIPModel.from_pretrained(
            None,
            config=config,
            state_dict=converted,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # not to ignore them: to have them all in the report
        )
    model, report = loaded
    raise_for_report(folder, report)
    return model.eval()


def official_config() -> CLIPConfig:
    """open_clip's ViT-H-14: 224 pixels, 77 tokens, features of 1024."""
    text = CLIPTextConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        projection_dim=1024,
        hidden_act="gelu",
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )
    vision = CLIPVisionConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=16,
        projection_dim=1024,
        patch_size=14,
        hidden_act="gelu",
    )
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=1024)  # type: ignore[arg-type]


def _state_dict(path: Path) -> Mapping[str, torch.Tensor]:
    """The weights in an official file, which holds them as `state_dict`. Read without running anything in it."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise PrefmillError(f"{path} is truncated or no weight file.", "download it again") from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise PrefmillError(f"{path} holds no state_dict.", "use the official file")
    return state


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    if any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        return load_tokenizer(folder)
    try:  # the official folder has none: all CLIPs share one vocabulary
        return CLIPTokenizer.from_pretrained(TOKENIZER)
    except Exception as error:  # offline, mostly
        raise PrefmillError(
            f"{folder} has no tokenizer, and that of {TOKENIZER} is not to be had from the hub.",
            f"put a CLIP's tokenizer.json into {folder}",
        ) from error
