"""A vision-language model whose forward pass yields log-probabilities of answers, and never logits.

It is the model's own class with one more way through its forward, so that everything built for that class (peft,
transformers.Trainer, DeepSpeed, checkpoints) works unchanged, and whatever wraps the forward (autocast, an engine's
casts) acts on all of it, head included.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ...base.errors import PrefmillError
from ...engine.checkpoint import load_strict
from ...kernels.logprob import token_statistics
from .attention import AttentionWay, require_pair_attention, use_pair_attention

if TYPE_CHECKING:
    from .layout import Layout

FAMILIES = ("llava",)
"""Model types that were proven to be read right: positions count up, images go in as embeddings."""


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
        image_features: list[torch.Tensor] | None = None,
        **inputs: Any,
    ) -> Any:
        """Log-probability, entropy and argmax hit [N] of a layout's targets; without `answer_rows` as the model."""
        model = cast(PreTrainedModel, self)
        if answer_rows is None or targets is None:
            return super().forward(input_ids=input_ids, **inputs)  # type: ignore[misc]
        require_pair_attention(model, self.attention_way)
        if self.attention_way == "pairs":
            inputs["pair_spans"] = pair_spans
        if image_features is not None:
            inputs["mm_encoder_outputs"] = {
                "image": BaseModelOutputWithPooling(pooler_output=cast(Any, image_features))
            }
        states = model.base_model(input_ids=input_ids, use_cache=False, **inputs).last_hidden_state
        head = cast(torch.nn.Linear, model.get_output_embeddings())
        hidden = states.flatten(0, 1)[answer_rows]
        return token_statistics(hidden, head.weight, targets, head.bias)

    def image_features(self, **inputs: torch.Tensor) -> list[torch.Tensor]:
        """Return what the language model reads of each image, [tokens, D], in the model's precision."""
        features = cast(Any, self).get_image_features(**inputs, return_dict=True).pooler_output
        return [feature.detach() for feature in features]


def load_scorer(folder: Path, dtype: torch.dtype, attention: AttentionWay | None = None) -> PreTrainedModel:
    """Load a model as a scorer of pairs. Raises PrefmillError for a model that cannot be one."""
    return as_scorer(load_strict(scorer_class(folder), folder, dtype=dtype), attention)


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
    mask = {} if way == "pairs" else {"attention_mask": layout.mask()}
    return {
        "input_ids": layout.input_ids,
        "position_ids": layout.positions,
        "answer_rows": layout.answer_rows,
        "targets": layout.targets,
        "pair_spans": layout.spans,
        **mask,
    }
