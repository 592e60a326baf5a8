"""From open_clip's names of a CLIP's weights to transformers', every one of them or an error.

Two things are more than names: open_clip keeps query, key and value as one matrix, and its two projections are
applied from the right, so that they are transposed here.
"""

import re
from collections.abc import Mapping

import torch

from ...base.errors import PrefmillError

_TOWERS = {"visual.": "vision_model.", "": "text_model."}
# Of one tower, below its prefix; the first pattern that matches decides.
_RENAMES: tuple[tuple[str, str], ...] = (
    (r"^class_embedding$", "embeddings.class_embedding"),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^token_embedding\.", "embeddings.token_embedding."),
    (r"^conv1\.", "embeddings.patch_embedding."),
    (r"^ln_pre\.", "pre_layrnorm."),  # spelled so in transformers
    (r"^ln_post\.", "post_layernorm."),
    (r"^ln_final\.", "final_layer_norm."),
    (r"^transformer\.resblocks\.(\d+)\.ln_([12])\.", r"encoder.layers.\1.layer_norm\2."),
    (r"^transformer\.resblocks\.(\d+)\.attn\.out_proj\.", r"encoder.layers.\1.self_attn.out_proj."),
    (r"^transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"encoder.layers.\1.mlp.fc1."),
    (r"^transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"encoder.layers.\1.mlp.fc2."),
)
_ATTENTION = re.compile(r"^transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)$")
_PROJECTIONS = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_COMPUTED = ("attn_mask",)


def convert_open_clip_state_dict(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights by open_clip's names to weights by those of transformers' CLIPModel.

    Raises PrefmillError for a name it does not know and for a matrix that is not three in one.
    """
    converted: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if key in _COMPUTED:
            continue
        if key == "logit_scale":
            converted[key] = value.reshape(())
        elif key in _PROJECTIONS:
            converted[_PROJECTIONS[key]] = value.T.contiguous()
        else:
            converted |= _of_tower(key, value)
    return converted


def _of_tower(key: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    prefix = "visual." if key.startswith("visual.") else ""
    name, tower = key.removeprefix(prefix), _TOWERS[prefix]
    if found := _ATTENTION.match(name):
        if len(value) % 3:
            raise PrefmillError(f"{key} has {len(value)} rows, not three times as many.", "use the official weights")
        layer, kind = found.groups()
        parts = zip("qkv", value.chunk(3), strict=True)
        return {f"{tower}encoder.layers.{layer}.self_attn.{one}_proj.{kind}": part.clone() for one, part in parts}
    for pattern, replacement in _RENAMES:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return {f"{tower}{renamed}": value}
    raise PrefmillError(f"{key!r} is no weight of open_clip's CLIP.", "use the official weights")
