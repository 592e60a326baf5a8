"""A vision-language model whose forward pass yields log-probabilities of answers, and never logits.

It is the model's own class with one more way through its forward, so that everything built for that class (peft,
transformers.Trainer, DeepSpeed, checkpoints) works unchanged, and whatever wraps the forward (autocast, an engine's
casts) acts on all of it, head included.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ...base.errors import PrefmillError
from ...engine.checkpoint import load_strict
from ...kernels.logprob import token_statistics
from .attention import AttentionWay, best_way, require_pair_attention, use_pair_attention, varlen_index

if TYPE_CHECKING:
    from .layout import Layout

FAMILIES = ("llava", "llava_next", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "smolvlm", "idefics3", "internvl")
"""Model types that were proven to be read right: images go in as embeddings, positions as numbers."""

IMAGE_INPUTS = ("pixel_values", "image_sizes", "image_grid_thw", "pixel_attention_mask", "image_tokens")
"""What a scorer reads of images. `image_tokens` [images] says how many tokens each takes; it may be left out where the
model itself tells the images apart."""

_JOINED = ("internvl",)  # reads the features of all images as one tensor, where others read a list


@dataclass
class ImageOutput(BaseModelOutputWithPooling):
    """What the language model reads of images: at its input, and (deepstack) after its first layers."""

    deepstack_features: list[list[torch.Tensor]] | None = None


class PairScoring:
    """Mixed into a model class in front of it. See the module."""

    accepts_loss_kwargs = False  # the trainer asks whether the loss is already divided by the tokens of a step
    attention_way: AttentionWay = "pairs"

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        answer_rows: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        pair_spans: Any = None,
        pair_index: Any = None,
        image_features: list[torch.Tensor] | None = None,
        **inputs: Any,
    ) -> Any:
        """Log-probability, entropy and argmax hit [N] of a layout's targets; without `answer_rows` as the model.

        `image_features` (see there) stand in for the inputs named in IMAGE_INPUTS.
        """
        model = cast(PreTrainedModel, self)
        if answer_rows is None or targets is None:
            return super().forward(input_ids=input_ids, **inputs)  # type: ignore[misc]
        require_pair_attention(model, self.attention_way)
        if self.attention_way == "pairs":
            inputs["pair_spans"] = pair_spans
        elif self.attention_way == "varlen":
            inputs["pair_index"] = pair_index
        images = {name: inputs.pop(name) for name in IMAGE_INPUTS if name in inputs}
        features = self.image_features(**images) if image_features is None else image_features
        inputs["mm_encoder_outputs"] = {"image": self._image_output(features)}
        states = model.base_model(input_ids=input_ids, use_cache=False, **inputs).last_hidden_state
        head = cast(torch.nn.Linear, model.get_output_embeddings())
        hidden = states.flatten(0, 1)[answer_rows]
        return token_statistics(hidden, head.weight, targets, head.bias)

    @torch.no_grad()
    def image_features(self, image_tokens: torch.Tensor | None = None, **inputs: torch.Tensor) -> list[torch.Tensor]:
        """Return what the language model reads of each image, [tokens, `feature_width`], in the model's precision.

        What it reads after its first layers (deepstack) stands beside what it reads at its input.
        """
        got = cast(Any, self).get_image_features(**inputs, return_dict=True)
        parts = [got.pooler_output, *(getattr(got, "deepstack_features", None) or ())]
        counts = [len(image) for image in parts[0]] if image_tokens is None else image_tokens.tolist()
        flat = [torch.cat([image.flatten(0, -2) for image in part]) for part in parts]
        return list(torch.cat(flat, -1).split(counts))

    def _image_output(self, features: list[torch.Tensor]) -> ImageOutput:
        config = cast(PreTrainedModel, self).config
        if config.model_type in _JOINED:
            return ImageOutput(pooler_output=cast(Any, torch.cat(features)[None]))
        width = config.get_text_config().hidden_size
        first, *others = zip(*(image.split(width, -1) for image in features), strict=True)
        return ImageOutput(pooler_output=cast(Any, first), deepstack_features=[list(part) for part in others])


def feature_width(model: PreTrainedModel) -> int:
    """Return how many numbers of an image's token the language model reads."""
    layers = getattr(model.config.vision_config, "deepstack_visual_indexes", ())
    return model.config.get_text_config().hidden_size * (1 + len(layers))


def load_scorer(
    folder: Path, dtype: torch.dtype, attention: AttentionWay | None = None, device: str = "cpu"
) -> PreTrainedModel:
    """Load a model as a scorer of pairs, for a device. Raises PrefmillError for a model that cannot be one.

    `attention` None takes the best way there.
    """
    model = load_strict(scorer_class(folder), folder, dtype=dtype)
    return as_scorer(model, attention or best_way(model, device, dtype))


def as_scorer(model: PreTrainedModel, attention: AttentionWay | None = None) -> PreTrainedModel:
    """Switch a scorer's attention to pairs."""
    scorer = cast(Any, model)
    scorer.attention_way = use_pair_attention(model, attention)
    return model


def scorer_class(folder: Path) -> type[PreTrainedModel]:
    """Return the class of a folder's model, with PairScoring in front."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if config.model_type not in FAMILIES:
        raise PrefmillError(
            f"backend=shared does not know {config.model_type} models, only {', '.join(FAMILIES)}", "set backend=trl"
        )
    plain: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    # Named as the class it is: peft writes the name into the adapter, for whoever loads it.
    return type(plain.__name__, (PairScoring, plain), {"__module__": plain.__module__, "__doc__": plain.__doc__})


def model_inputs(layout: Layout, way: AttentionWay) -> dict[str, Any]:
    """Return a layout as keyword arguments of the scorer's forward, images left out."""
    extra: dict[str, Any] = {}
    if way == "mask":
        extra["attention_mask"] = layout.mask()
    elif way == "varlen":
        extra["pair_index"] = varlen_index(layout.spans, layout.input_ids.shape[1])
    return {
        "input_ids": layout.input_ids,
        "position_ids": layout.positions,
        "answer_rows": layout.answer_rows,
        "targets": layout.targets,
        "pair_spans": layout.spans,
        **extra,
    }
