"""The settings of a LoRA DPO training; their defaults are the published PDS-DPO recipe.

Only the language model learns: LoRA sits on its seven kinds of linear layers (q, k, v, o, gate, up, down), never on
the vision tower, the projector or the head. So switching the adapter off gives back the reference model exactly,
and no second copy of the weights is needed.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from .launch_settings import LaunchSettings, Positive
from .losses import Loss, check_smoothing

ImageNegative = Literal["crop", "noise", "other"]


class DPOTrainingConfig(LaunchSettings):
    """How an adapter is trained. One step consumes `batch_size * accumulation * processes * nodes`
    pairs."""

    backend: Literal["shared", "trl"] = "shared"
    """shared: every prompt is read once for both of its answers (train/preference). trl: TRL's DPOTrainer, the same
    training in more work; it is also what trains, and says so, what shared does not know."""
    model: str = "llava-hf/llava-1.5-7b-hf"
    """A folder written by save_pretrained, or a hub id."""
    base_bits: Literal[4] | None = None
    """4: the frozen language model is kept in four bits (QLoRA: NF4, doubly quantised), a quarter of its memory; the
    reference is the model in four bits too. Needs bitsandbytes. None: in the training's precision."""
    system_prompt: str | None = None
    """Put before the first turn. Use what the model will be asked with later."""
    max_tokens: Positive = 2048
    """Pairs whose longer side exceeds this, image tokens included, are left out and listed; nothing is cut."""

    lora_rank: Positive = 128
    lora_alpha: Positive = 256
    lora_dropout: float = Field(default=0.05, ge=0, lt=1)
    disable_dropout: bool = True
    """True sets every dropout to zero, `lora_dropout` too: so the published recipe's 0.05 never acted there either."""

    beta: float = Field(default=0.1, gt=0)
    loss: Loss = "sigmoid"
    """Most compare the answers' summed log-probabilities, which favours changing long ones. Normalised by length (means
    per token) are sigmoid_norm, which is DPO otherwise and wants a larger beta (its authors: 5), and ipo."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of flipped preferences, for the losses that take one (train/losses.py); the others refuse it."""

    sft_weight: float = Field(default=0.0, ge=0)
    """Add this times the chosen answers' mean negative log-likelihood per token (RPO, arXiv 2404.19733). A preference
    loss alone can make both answers of a pair less likely than a third that nobody asked for; this holds the chosen."""

    image_weight: float = Field(default=0.0, ge=0)
    """backend=shared: add this times mDPO's image term (arXiv 2406.11839), by which the chosen answer shall be likelier
    with its image than with a corrupted one; 1 in the paper. It reads a second, shorter sequence per pair."""
    image_negative: ImageNegative = "crop"
    """The corrupted image, one per pair: crop: a random part of at most a fifth of the area, enlarged (the paper's);
    noise: the image under diffusion noise (VCD, arXiv 2311.16922); other: an image of another prompt of the run."""
    anchor_weight: float = Field(default=0.0, ge=0)
    """backend=shared: add this times mDPO's anchor, by which the chosen answer's reward shall exceed `anchor_margin`;
    1 in the paper, on the chosen answer alone. It costs nothing."""
    anchor_margin: float = Field(default=0.0, ge=0)
    """In units of the reward; 0 in the paper."""
    margin_weight: Literal["none", "linear"] = "none"
    """backend=shared: linear: a pair counts in proportion to the judge's margin (train/preference/weights.py)."""

    learning_rate: float = Field(default=1e-5, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    epochs: Positive = 2
    max_steps: Positive | None = None
    """Stop (and let the learning rate end) after this many optimizer steps instead of after `epochs`."""
    batch_size: Positive = 1
    """Pairs per process and micro-batch."""
    accumulation: Positive = 4
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: about a fifth slower, far less memory."""
    eval_share: float = Field(default=0.0, ge=0, le=0.5)
    """About this share of the prompts, with all their pairs, is not trained on but evaluated, whatever the seed."""
    eval_every: Positive = 100
    """Steps between evaluations of the pairs held out; the last step is followed by one as well."""

    cache: str | None = None
    """backend=shared: folder of cached image features and reference log-probabilities, which other trainings of the
    same model and run use too. None: one in the output, removed at the end."""
    cache_gigabytes: float = Field(default=50.0, ge=0)
    """backend=shared: image features are cached where all of them fit into this, else made anew for every step."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_smoothing(self.loss, self.label_smoothing)
        if self.eval_share and self.eval_every % self.log_every:
            raise ValueError(f"eval_every ({self.eval_every}) must be a multiple of log_every ({self.log_every})")
        if self.anchor_margin and not self.anchor_weight:
            raise ValueError(f"anchor_margin ({self.anchor_margin:g}) would be ignored; set anchor_weight, such as 1")
        if self.backend == "trl" and self.shared_alone:
            raise ValueError(f"backend=trl has no {' and no '.join(self.shared_alone)}; set backend=shared")
        return self

    @property
    def shared_alone(self) -> list[str]:
        """Return the settings that ask for what only backend=shared computes."""
        weights = [name for name in ("image_weight", "anchor_weight") if getattr(self, name)]
        return [*weights, *(["margin_weight"] if self.margin_weight != "none" else [])]

    @property
    def libraries(self) -> dict[str, str]:
        """What the settings need that does not come with the package: packages by the setting that asks for them."""
        quantized = {f"base_bits={self.base_bits}": "bitsandbytes"} if self.base_bits else {}
        return super().libraries | quantized
