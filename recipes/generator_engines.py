"""What the generator's engines take beyond parity: prompts to calibrate on, and prompts to be judged by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..base.errors import PrefmillError
from ..engine.scorers.choice import ScorerChoice
from ..pipeline.prompts import PromptsConfig, read_prompts
from ..pipeline.records import Prompt
from .engines import StageModel, stage_models
from .recipe import BaseRecipe

if TYPE_CHECKING:
    from ..compile.precision_report import PrecisionReport
    from ..compile.quantize.calibration import Calibration


def prompt_texts(path: str, limit: int | None = None) -> tuple[str, ...]:
    """The first `limit` prompts of a file. Raises PrefmillError where it cannot be read, or has none."""
    read = read_prompts(PromptsConfig(path=path))
    texts = tuple(prompt.text for prompt in read if isinstance(prompt, Prompt))[:limit]
    if not texts:
        raise PrefmillError(f"{path} has no prompts", "give --prompts FILE, with one prompt per line")
    return texts


def calibrated(model: StageModel, stage: Any, prompts: Sequence[str]) -> Calibration:
    """How large inputs of its linear layers get while a generator's stage, loaded eagerly, draws as its settings say.

    Raises PrefmillError for a stage that draws nothing.
    """
    from ..compile.quantize.calibration import calibrate
    from ..pipeline.stages.generate import GenerateStage

    if not isinstance(stage, GenerateStage):
        raise PrefmillError(f"{model.name} draws no images to calibrate on", "--set engine.dtype=auto")
    return calibrate(stage.engine, prompts, stage.config.guidance, steps=stage.config.steps)


def draws(model: StageModel) -> bool:
    """Whether a stage is a generator."""
    from ..pipeline.generate_settings import GenerateConfig

    return isinstance(model.settings, GenerateConfig)


def judged(model: StageModel, recipe: BaseRecipe, prompts: Sequence[str]) -> tuple[PrecisionReport, tuple[str, ...]]:
    """Images of a generator's engines against eager float32, by the recipe's scorer; and the engines' folders.

    The report is kept in the manifests of these. Raises PrefmillError for a recipe without a scorer of images, and
    whatever keeps the engines from being loaded.
    """
    from ..compile.precision_report import report, write_report
    from ..engine.backends.engine_runner import EngineRunner

    scoring = next((one for one in stage_models(recipe) if isinstance(one.settings, ScorerChoice)), None)
    if scoring is None:
        raise PrefmillError("this recipe has no scorer of images to judge by", "leave --prompts out")
    eager: Any = model.load(backend="eager", dtype="float32")
    engine: Any = model.load(backend=model.engine.backend)
    runners = [runner for runner in engine.engine.runners if isinstance(runner, EngineRunner)]
    if not runners:
        raise PrefmillError(f"{model.name} has no engine to judge", "build one: prefmill compile build RECIPE")
    scorer = scoring.settings.load(scoring.engine.model_copy(update={"backend": "eager", "dtype": "float32"}))
    guidance, steps = model.settings.guidance, model.settings.steps
    found = report(eager.engine, engine.engine, scorer, prompts, guidance, steps=steps)
    for runner in runners:
        write_report(runner.folder, runner.artifact, found)
    return found, tuple(str(runner.folder) for runner in runners)
