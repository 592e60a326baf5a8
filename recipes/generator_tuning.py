"""How a generator is tuned, by name: settings for `prefmill train generator`, to take as they are or to override."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..base.errors import PrefmillError
from ..engine.scorers.choice import ScorerChoice
from ..engine.settings import MICRO_PREFIX
from ..train.generator.ppo.settings import PpoSettings
from ..train.generator.settings import FlowDpoSettings, GeneratorTrainingConfig, ReflSettings
from .saved import generators_of, has_recipe


def sd3() -> GeneratorTrainingConfig:
    """A Stable Diffusion 3.5 medium with the adapter and optimizer of Flow-GRPO, at 512 pixels."""
    return GeneratorTrainingConfig(width=512, height=512)


def micro() -> GeneratorTrainingConfig:
    """The generator of the micro world: minutes on one core."""
    return GeneratorTrainingConfig(
        model="micro:text-to-image",
        t5_tokens=0,
        reward=ScorerChoice(model="micro:image-reward"),
        flow_dpo=FlowDpoSettings(beta=10.0, guidance=(1.0, 5.0), guided=True),
        refl=ReflSettings(batch_size=16, micro_batch=16, guidance=(1.0, 5.0), earliest=0.3),
        # begun from one noise, a group's rewards differ by what the trained steps did alone
        ppo=PpoSettings(prompts=8, clip=1e-3, beta=0.0, noise_level=0.8, guidance=(1.0, 5.0), same_start=True),
        guidance=1.0,
        sampling_steps=8,
        eval_steps=8,
        drawing_batch=64,
        zero_stage=0,
    )


TUNINGS: dict[str, Callable[[], GeneratorTrainingConfig]] = {"sd3": sd3, "micro": micro}


def load_tuning(name: str | None, run: Path) -> GeneratorTrainingConfig:
    """Settings by name; by default those that fit the run's generator, with that generator as the model.

    Raises PrefmillError for an unknown name.
    """
    if name is not None:
        if name not in TUNINGS:
            raise PrefmillError(f"there is no tuning {name!r}", f"choose one of {', '.join(TUNINGS)}")
        return TUNINGS[name]()
    drawn = generators_of(run) if has_recipe(run) else []
    if not drawn:
        return sd3()
    first = drawn[0]
    if first.model.startswith(MICRO_PREFIX):
        return micro().model_copy(update={"model": first.model})
    own = {name: getattr(first, name) for name in ("model", "t5_tokens", "width", "height")}
    return sd3().model_copy(update=own)
