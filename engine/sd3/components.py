"""A Stable Diffusion 3 folder in the diffusers layout, loaded strictly, part by part."""

# diffusers exports lazily, which pyright takes for private use.
# pyright: reportPrivateImportUsage=false

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerBase,
    T5Config,
    T5EncoderModel,
)

from ...base.errors import PrefmillError
from ..checkpoint import load_strict, read_config
from ..text import load_tokenizer


@dataclass(frozen=True)
class Components:
    """The networks, tokenizers and scheduler; T5 and its tokenizer may be absent."""

    transformer: SD3Transformer2DModel
    autoencoder: AutoencoderKL
    encoders: tuple[torch.nn.Module, torch.nn.Module, torch.nn.Module | None]
    tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase, PreTrainedTokenizerBase | None]
    scheduler: FlowMatchEulerDiscreteScheduler


def load_components(
    folder: Path, device: torch.device, dtype: torch.dtype, t5_device: torch.device | None = None
) -> Components:
    """Load every part, T5 to a device of its own if need be; it is absent where model_index.json has null for it.

    Raises PrefmillError for another pipeline, a part that is missing or does not fit, and a scheduler that this loop
    does not follow.
    """
    index = _index(folder)

    def load(model_class: type[Any], name: str, place: torch.device = device) -> Any:
        return load_strict(model_class, folder / name, dtype=dtype).to(place)

    has_t5 = _has_t5(index)
    return Components(
        load(SD3Transformer2DModel, "transformer"),
        load(AutoencoderKL, "vae"),
        (
            load(CLIPTextModelWithProjection, "text_encoder"),
            load(CLIPTextModelWithProjection, "text_encoder_2"),
            load(T5EncoderModel, "text_encoder_3", t5_device or device) if has_t5 else None,
        ),
        (
            load_tokenizer(folder / "tokenizer"),
            load_tokenizer(folder / "tokenizer_2"),
            load_tokenizer(folder / "tokenizer_3") if has_t5 else None,
        ),
        _scheduler(folder / "scheduler"),
    )


def meta_components(folder: Path, dtype: torch.dtype) -> tuple[Any, Any, tuple[Any, ...]]:
    """Transformer, autoencoder and text encoders (None for an absent T5) without storage, from the configs alone."""
    index = _index(folder)

    def built(part: torch.nn.Module) -> Any:
        return torch.nn.Module.to(part, dtype).eval()  # diffusers' own warns of what it would do to real weights

    with torch.device("meta"):
        transformer, autoencoder = (
            built(cast(Any, kind).from_config(read_config(folder / name, "config.json")))
            for kind, name in ((SD3Transformer2DModel, "transformer"), (AutoencoderKL, "vae"))
        )
        clips = [
            built(CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(folder / name)))
            for name in ("text_encoder", "text_encoder_2")
        ]
        t5 = built(T5EncoderModel(T5Config.from_pretrained(folder / "text_encoder_3"))) if _has_t5(index) else None
    return transformer, autoencoder, (*clips, t5)


def _index(folder: Path) -> dict[str, Any]:
    index = read_config(folder, "model_index.json")
    if index.get("_class_name") != "StableDiffusion3Pipeline":
        raise PrefmillError(
            f"{folder} holds a {index.get('_class_name')!r}, expected 'StableDiffusion3Pipeline'.",
            "point the text-to-image setting at a Stable Diffusion 3 folder in the diffusers layout",
        )
    return index


def _has_t5(index: dict[str, Any]) -> bool:
    return bool((index.get("text_encoder_3") or [None])[0])


def _scheduler(folder: Path) -> FlowMatchEulerDiscreteScheduler:
    stated = read_config(folder, "scheduler_config.json")
    for name in ("stochastic_sampling", "invert_sigmas"):
        if stated.get(name):
            raise PrefmillError(
                f"the scheduler in {folder} wants {name}, which Stable Diffusion 3 does not.",
                "use the scheduler that the checkpoint was published with",
            )
    return cast(FlowMatchEulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler.from_pretrained(folder))
