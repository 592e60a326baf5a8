"""Tuned generators against their base: the same prompts, seeds and guidance, judged by several scorers.

The evaluation is a run like any other, so it can be killed and continued, and looked at with `prefmill show`:

    FOLDER/prompts, candidates-base, candidates-NAME     images: every generator draws from the same noise
    FOLDER/image_scores-JUDGE-NAME                       what each judge says of them
    FOLDER/spreads-SPACE-NAME                            how far the images of one prompt lie apart
    FOLDER/evaluation.json, evaluation.html, changes-NAME.png

A generator tuned on a reward has learnt to please it, so at least one judge should be another; where none is, the
result says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ...base.errors import PrefmillError
from ...base.progress import Progress
from ...base.settings import Settings
from ...engine.checkpoint import checkpoint_key
from ...engine.responders.adapter import CONFIG, require_adapter
from ...engine.scorers.catalogue import IMAGE_SCORERS
from ...engine.settings import MICRO_PREFIX, EngineSettings
from ...pipeline.declaration import Inputs, StageDeclaration
from ...pipeline.execute.work import ExecutorConfig
from ...pipeline.generate_settings import GenerateConfig, GeneratorConfig
from ...pipeline.loop import Loop
from ...pipeline.prompts import PromptsConfig
from ...pipeline.records import Candidate, Prompt
from ...pipeline.sources import DatasetSource, PromptedImage, read_rows
from ...pipeline.stages.generate import GENERATORS
from ...pipeline.stages.prompts import STAGE as PROMPTS
from ...pipeline.stages.score import STAGE as SCORE
from ...pipeline.stages.score import ScoreConfig, ScoreStage
from ...pipeline.store import Run
from ...pipeline.synthesis import remake_from, synthesize
from .generator_oracle import ORACLE, OracleStage
from .generator_spread import PIXELS, SPREADS, SpreadConfig

BASE = "base"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


class DrawingSettings(Settings):
    """How the base draws, and on what: the settings of a recipe that an evaluation takes over."""

    generate: GenerateConfig = GenerateConfig()
    engine: EngineSettings = EngineSettings()
    executor: ExecutorConfig = ExecutorConfig()


class EvaluatedGenerator(GeneratorConfig):
    """One generator: the base, or the base with an adapter. `weights` names what the adapter holds."""

    weights: str = ""


class Judge(ScoreConfig):
    """One scorer's look at one generator's images."""

    generator: str

    @property
    def name(self) -> str:
        """What the folder of its scores ends in."""
        return f"{self.scorer}-{self.generator}"


class OracleJudge(Settings):
    """The micro world's oracle in a judge's place."""

    generator: str
    batch_size: int = 256
    scorer: ClassVar[str] = ORACLE
    sources: ClassVar[dict[str, str]] = {}

    @property
    def name(self) -> str:
        """What the folder of its scores ends in."""
        return f"{ORACLE}-{self.generator}"


def _images(inputs: Inputs) -> DatasetSource[PromptedImage]:
    """Return one generator's images with their prompts; what is judged depends on nothing but the images' ids."""
    prompts = inputs.rows(PROMPTS)
    places = prompts.rows_by("id")

    def join(candidates: list[Candidate]) -> list[PromptedImage]:
        read = read_rows(prompts, (places[candidate.prompt_id or ""] for candidate in candidates))
        return [PromptedImage(row.id, row.image, read[places[row.prompt_id or ""]].text) for row in candidates]

    return DatasetSource(inputs.run.dataset(f"{GENERATORS.name}-{inputs.settings.generator}", Candidate), join_all=join)


JUDGES = StageDeclaration(
    name=SCORE.name,
    output=SCORE.output,
    setting="judges",
    reads=(PROMPTS,),
    source=_images,
    build=lambda judge, settings: OracleStage() if judge.scorer == ORACLE else ScoreStage(judge, settings),
    unit="images",
    checkpoints=lambda judge: tuple(judge.sources.values()),
    annotates=True,
)


class GeneratorEvaluation(Loop):
    """What is drawn and judged. Use `evaluation_of` to make one: every generator has the same settings in it."""

    STAGES: ClassVar[tuple[StageDeclaration, ...]] = (PROMPTS, GENERATORS, JUDGES, SPREADS)

    prompts: PromptsConfig
    generators: tuple[EvaluatedGenerator, ...]
    judges: tuple[Judge | OracleJudge, ...]
    spreads: tuple[SpreadConfig, ...]

    @property
    def tuned(self) -> tuple[str, ...]:
        """The names of the generators that are held against the base."""
        return tuple(one.name for one in self.generators if one.name != BASE)

    @property
    def guidance(self) -> tuple[float, ...]:
        """The guidance scales, each once."""
        return tuple(dict.fromkeys(self.generators[0].guidance))

    @property
    def scorers(self) -> tuple[str, ...]:
        """The judges' names, each once."""
        return tuple(dict.fromkeys(judge.scorer for judge in self.judges))

    @property
    def spaces(self) -> tuple[str, ...]:
        """In what distances are measured."""
        return tuple(dict.fromkeys(spread.space for spread in self.spreads))


@dataclass(frozen=True)
class TunedAdapter:
    """An adapter on disk: its name here, its folder, its training's manifest where there is one, and its content."""

    name: str
    folder: Path
    manifest: Path | None
    weights: str


def find_adapter(given: str) -> TunedAdapter:
    """Return the adapter in a training's folder, or the folder of an adapter itself; `NAME=FOLDER` names it.

    Raises PrefmillError where there is none, where it is not what its training wrote, and for a name of no folder.
    """
    name, separator, place = given.partition("=")
    folder = Path(place if separator else given).expanduser()
    inner = folder if (folder / CONFIG).is_file() or not (folder / "adapter").is_dir() else folder / "adapter"
    require_adapter(inner)
    if not separator:
        owner = inner.resolve().parent if inner.resolve().name == "adapter" else inner.resolve()
        name = owner.name
    if name == BASE:
        raise PrefmillError(f"{given} would go by the name of the base", "name it: --adapter NAME=FOLDER")
    if not _NAME.fullmatch(name):
        raise PrefmillError(f"{name!r} cannot name a folder of images", "name it: --adapter NAME=FOLDER, in lower case")
    manifest = inner.resolve().parent / "manifest.json"
    return TunedAdapter(name, inner, manifest if manifest.is_file() else None, checkpoint_key(inner, "adapter"))


def evaluation_of(
    prompts: PromptsConfig,
    drawing: DrawingSettings,
    adapters: Sequence[TunedAdapter],
    judges: Sequence[ScoreConfig],
    *,
    images: int = 4,
    with_oracle: bool = False,
) -> GeneratorEvaluation:
    """Return the evaluation of adapters of one base; `images` of a prompt are drawn at each guidance scale.

    The oracle judges where it is asked for, and where the base is a micro checkpoint. Raises PrefmillError for
    adapters that share a name, and for a batch size that is no number.
    """
    generate = drawing.generate
    if generate.batch_size == "auto":
        raise PrefmillError("generate.batch_size is auto, which only runs settle", "--set generate.batch_size=2")
    scales = dict.fromkeys(generate.guidance)
    drawn: dict[str, Any] = generate.model_dump() | {
        "guidance": [scale for scale in scales for _ in range(images)],
        "seeds": "id",
        "adapter": None,
        "prune": None,
    }
    generators = [EvaluatedGenerator(**drawn, name=BASE)]
    for adapter in adapters:
        if adapter.name in (one.name for one in generators):
            raise PrefmillError(f"two adapters are called {adapter.name}", "name them: --adapter NAME=FOLDER")
        own: dict[str, Any] = drawn | {"adapter": str(adapter.folder), "name": adapter.name, "weights": adapter.weights}
        generators.append(EvaluatedGenerator(**own))
    looks: list[Judge | OracleJudge] = [
        Judge(**judge.model_dump(), generator=one.name) for judge in judges for one in generators
    ]
    if with_oracle or generate.model.startswith(MICRO_PREFIX):
        looks += [OracleJudge(generator=one.name) for one in generators]
    spaces: list[ScoreConfig | None] = [None, *(judge for judge in judges if IMAGE_SCORERS[judge.scorer].embeds)]
    spreads = [
        SpreadConfig(space=judge.scorer if judge else PIXELS, model=judge.model if judge else "", generator=one.name)
        for judge in spaces
        for one in generators
        if images > 1
    ]
    return GeneratorEvaluation(
        prompts=prompts,
        generators=tuple(generators),
        judges=tuple(looks),
        spreads=tuple(spreads),
        engine=drawing.engine,
        executor=drawing.executor,
    )


def draw_and_judge(folder: Path, evaluation: GeneratorEvaluation, progress: Progress, remake: str | None = None) -> Run:
    """Draw and judge what is missing, and return the run. Raises PrefmillError as every run does."""
    with Run.writing(folder) as run:
        if remake:
            remake_from(run, evaluation, remake, progress)
        synthesize(run, evaluation, progress)
    if not len(run.dataset(PROMPTS.name, Prompt)):
        raise PrefmillError(f"{evaluation.prompts.path} holds no usable prompt", "give --prompts a file of prompts")
    return run
