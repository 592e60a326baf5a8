"""The settings of a generator's training: LoRA on the transformer of a Stable Diffusion 3, by one of three methods.

The adapter's shape and the optimizer's numbers are those of Flow-GRPO (arXiv 2505.05470). Only the adapter learns, so
that switching it off gives back the model as it was, bit for bit.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ...base.settings import Settings
from ...engine.scorers.choice import ScorerChoice
from ...engine.settings import Backend
from ..launch_settings import LaunchSettings, Positive
from .ppo.settings import PpoSettings

Method = Literal["flow-dpo", "refl", "ppo"]

TARGETS = tuple(
    f"attn.{name}"
    for name in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
)
"""The linear layers of a block's joint attention, of image and text: where LoRA sits."""


class FlowDpoSettings(Settings):
    """DPO for flows: of two images of a prompt, the better one shall become likelier than the worse one."""

    beta: float = Field(default=100.0, gt=0)
    """How strongly a change of the velocities' mean squared error counts against the reference."""
    batch_size: Positive = 16
    """Pairs per optimizer step, of all processes."""
    micro_batch: Positive = 8
    """Pairs per forward and backward pass of a process."""
    level_mean: float = 0.0
    """Noise levels are logistic of a normal number of this mean and `level_deviation` (Stable Diffusion 3's paper)."""
    level_deviation: float = Field(default=1.0, gt=0)
    noise: Literal["fresh", "own"] = "fresh"
    """fresh: winner and loser get the same noise, drawn anew at every step. own: each gets the noise that it was drawn
    from (PNAPO, arXiv 2605.09433), which the stored seeds give again; needs images that this model drew."""
    online: bool = False
    """False: the run's preferences between images. True: images are drawn by what is being trained, and the reward
    makes winner and loser of the best and the worst of a prompt."""
    group_size: int = Field(default=4, ge=2)
    """online: images per prompt and step."""
    reference_every: int = Field(default=0, ge=0)
    """Steps after which the reference becomes what the learner then is; 0: it stays the base."""
    guidance: tuple[float, ...] = ()
    """online: guidance scales that steps draw at by turns; empty: that of the training."""
    guided: bool = False
    """True: the velocities compared are guided, by the scale that a step draws at; the learner then fits the guided
    drawing. False: those under the prompt alone, as published."""
    aspect: str = "overall"
    """Of the run's preferences, those by this aspect."""


class ReflSettings(Settings):
    """ReFL (arXiv 2304.05977): the gradient of a differentiable reward through one late step and the decoder."""

    guidance: tuple[float, ...] = ()
    """Guidance scales that steps take by turns; empty: that of the training."""
    batch_size: Positive = 8
    """Prompts per optimizer step, of all processes; one image each."""
    micro_batch: Positive = 4
    """Images per forward and backward pass of a process."""
    earliest: float = Field(default=0.5, ge=0, lt=1)
    """The step that learns is drawn from this share of the schedule on; 30 of 40 in the paper, whose model needs more
    steps. Earlier steps decide more of the image, and are predicted less well."""
    latest: float = Field(default=1.0, gt=0, le=1)
    """... up to this share of it."""
    threshold: float = 2.0
    """The loss is relu(threshold - reward): an image that reaches it teaches nothing more."""
    scale: float = Field(default=1e-3, gt=0)
    reward_mean: float = 0.0
    """The reward is standardised by these before it meets the threshold; ImageReward's already is."""
    reward_deviation: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.earliest >= self.latest:
            raise ValueError(f"earliest ({self.earliest:g}) must be below latest ({self.latest:g})")
        return self


class GeneratorTrainingConfig(LaunchSettings):
    """How a generator is tuned. A `guidance` of 1 or less means none, in rollouts and in training alike."""

    model: str = "stabilityai/stable-diffusion-3.5-medium"
    """A folder in the diffusers layout, or a hub id."""
    t5_tokens: int = Field(default=256, ge=0)
    """As in `generate`: how many tokens T5 brings, or empty ones in its place."""
    t5: Literal["device", "host"] = "host"
    """Where T5's weights rest; from the host they come to the device while it encodes, once per prompt."""
    kept_prompts: Positive = 1024
    """Prompts whose embeddings stay on the device once they are encoded: 2.7 MB each with T5 in bfloat16."""
    method: Method = "flow-dpo"
    flow_dpo: FlowDpoSettings = FlowDpoSettings()
    refl: ReflSettings = ReflSettings()
    ppo: PpoSettings = PpoSettings()
    reward: ScorerChoice = ScorerChoice()
    """Any scorer of images, or a weighted mixture. Offline flow-dpo watches it and learns from the preferences."""

    lora_rank: Positive = 32
    lora_alpha: Positive = 64
    learning_rate: float = Field(default=3e-4, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    steps: Positive = 200
    """Optimizer steps."""
    ema_decay: float = Field(default=0.9, ge=0, lt=1)
    """The adapter that is written is a running average of the learner: average = decay * average + (1 - decay) *
    learner, every `ema_every` steps. 0: it is the learner itself."""
    ema_every: Positive = 8
    gradient_checkpointing: bool = False

    sampling_steps: int = Field(default=10, ge=2)
    """Steps of a rollout, and of the reference's schedule."""
    guidance: float = 4.5
    width: int | None = Field(default=None, ge=16)
    """Pixels; by default the model's own size."""
    height: int | None = Field(default=None, ge=16)
    drawing_batch: Positive = 16
    """Images that a process draws at a time."""
    backend: Backend = "eager"
    """What runs text encoders, decoder and reward while no gradient is asked for: an engine holds fixed weights, and
    theirs are. The transformer learns, so it runs eagerly whatever this says, or under torch_compile, whose graphs take
    the weights as they are."""
    missing: Literal["error", "eager", "build"] = "error"
    """As in `engine`: what to do where an engine is missing."""

    eval_every: Positive = 50
    """Steps between grids of samples, drawn by the averaged weights from fixed prompts and seeds."""
    eval_steps: Positive = 28
    """Steps that samples are drawn in, without noise."""
    eval_prompts: Positive = 6
    eval_images: int = Field(default=4, ge=2)
    """Images per prompt of a grid: from how they differ its diversity is told."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.eval_every % self.log_every:
            raise ValueError(f"eval_every ({self.eval_every}) must be a multiple of log_every ({self.log_every})")
        if self.report_to:
            raise ValueError("a generator's training writes metrics.jsonl and curves.png alone: leave report_to out")
        for name, size in (("flow_dpo", self.flow_dpo.batch_size), ("refl", self.refl.batch_size)):
            if self.method.replace("-", "_") == name and size % self.world:
                raise ValueError(f"{name}.batch_size ({size}) must be a multiple of the {self.world} processes")
        if self.method == "ppo":
            self._check_ppo()
        if self.flow_dpo.online and self.flow_dpo.noise == "own":
            raise ValueError("noise=own is for stored images; set flow_dpo.noise=fresh, or flow_dpo.online=false")
        return self

    def _check_ppo(self) -> None:
        own = self.ppo
        if own.prompts % (self.world * own.updates):
            raise ValueError(
                f"ppo.prompts ({own.prompts}) must be a multiple of {self.world} processes times {own.updates} updates"
            )
        if self.steps % own.steps_per_rollout:
            raise ValueError(
                f"steps ({self.steps}) must be a multiple of the {own.steps_per_rollout} that a rollout is learnt from"
            )

    @property
    def learns_from_preferences(self) -> bool:
        """Whether the run's preferences between images are what is learnt from."""
        return self.method == "flow-dpo" and not self.flow_dpo.online
