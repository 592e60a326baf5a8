"""The settings of an image reward's training; their defaults are ImageReward's recipe, on one's own preferences."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ...base.settings import Text, Weight
from ..launch_settings import LaunchSettings, Positive


class RewardTrainingConfig(LaunchSettings):
    """How an image reward is trained. One step consumes `batch_size * accumulation * processes * nodes` prompts, each
    with all its pairs: four images have up to six of an aspect, so that 16 prompts are ImageReward's 64 pairs or so."""

    model: Text = "Salesforce/blip-itm-large-coco"
    """What is trained from: a BLIP image-text-matching model, whose towers are taken, with a fresh head; or an image
    reward, such as THUDM/ImageReward, with its head."""
    aspects: tuple[Text, ...] = ("overall",)
    """The preferences that are trained on: `overall`, or aspects of the run's annotators."""
    heads: Literal["one", "per_aspect"] = "one"
    """one: one head learns from the preferences by all `aspects`. per_aspect: each has its own head on one network;
    the reward is then their mean by `aspect_weights`, in log-odds of a preference, and scores come with every aspect's
    own beside it."""
    aspect_weights: dict[str, Weight] = Field(default={})
    """heads=per_aspect: what each aspect counts in the reward; by default all count the same."""
    frozen_share: float = Field(default=0.7, ge=0, le=1)
    """This share of each tower's layers, from the first one on, and the embeddings before them stay as they are."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of flipped preferences."""
    margin_weight: Literal["none", "linear"] = "none"
    """linear: a preference counts in proportion to its margin."""

    learning_rate: float = Field(default=1e-5, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    epochs: Positive = 10
    max_steps: Positive | None = None
    """Stop (and let the learning rate end) after this many optimizer steps instead of after `epochs`."""
    batch_size: Positive = 16
    """Prompts per process and micro-batch."""
    accumulation: Positive = 1

    validation_share: float = Field(default=0.1, ge=0, le=0.5)
    """About this share of the prompts, with all their pairs, is not trained on; which depends on the prompts alone. The
    weights that do best on them are kept. 0: no validation, and the last weights are kept."""
    evaluations_per_epoch: Positive = 4
    """So often, and at the end, the validation is measured and a checkpoint written."""
    best_by: Literal["loss", "accuracy"] = "loss"
    """By what of the validation the best weights are chosen."""

    cache: str | None = None
    """Folder of cached image features (what the frozen layers say of an image), which other trainings of the same model
    and run use too. None: one in the output, removed at the end."""
    cache_gigabytes: float = Field(default=50.0, ge=0)
    """Features are cached where all of them fit into this, else made anew for every step."""

    @model_validator(mode="after")
    def _aspects_fit(self) -> Self:
        if not self.aspects or len(set(self.aspects)) < len(self.aspects):
            raise ValueError(f"aspects must name at least one, and none twice, not {list(self.aspects)}")
        if self.aspect_weights and self.heads == "one":
            raise ValueError("aspect_weights would be ignored; set heads=per_aspect")
        foreign = sorted(self.aspect_weights.keys() - set(self.aspects))
        if foreign:
            raise ValueError(f"aspect_weights names {foreign[0]!r}, which is not among the aspects")
        if self.heads == "per_aspect" and not any(self.weights):
            raise ValueError("aspect_weights must let one aspect count")
        if self.save_every != type(self).model_fields["save_every"].default:
            raise ValueError("checkpoints are written at evaluations; set evaluations_per_epoch instead of save_every")
        return self

    @property
    def weights(self) -> tuple[float, ...]:
        """What each aspect counts in the reward."""
        return tuple(self.aspect_weights.get(aspect, 0.0 if self.aspect_weights else 1.0) for aspect in self.aspects)

    @property
    def own_heads(self) -> tuple[str, ...]:
        """The aspects that have heads of their own."""
        return self.aspects if self.heads == "per_aspect" else ()

    def evaluation_steps(self, prompts: int) -> int:
        """Return the steps from one evaluation to the next where an epoch has so many prompts."""
        micro_batches = -(-prompts // (self.batch_size * self.world))
        steps = -(-micro_batches // self.accumulation) // self.evaluations_per_epoch
        return -(-max(steps, 1) // self.log_every) * self.log_every  # so that both fall on one step
