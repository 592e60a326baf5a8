"""An evaluation of generators from its settings to its files: drawn, judged, compared, written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from pydantic import Field

from ...base.files import write_text
from ...base.progress import Progress
from ...base.settings import Settings, Weight
from ...base.versions import package_versions
from ...engine.device import hardware_description
from ...engine.scorers.catalogue import IMAGE_SCORERS
from ...pipeline.prompts import HUB, open_prompts
from ...pipeline.store import Run
from ...pipeline.synthesis import RANDOM_NOTICE
from ...pipeline.thumbnails import thumbnail
from .generator import BASE, GeneratorEvaluation, Judge, TunedAdapter, draw_and_judge
from .generator_changes import largest_changes, write_picture
from .generator_oracle import ORACLE
from .generator_statistics import compared, levels
from .generator_training import TrainingReward, shared_with_reward, training_of, warnings_of
from .generator_values import Evaluated, read_values

RESULT, PAGE = "evaluation.json", "evaluation.html"


class ComparisonSettings(Settings):
    """How images are compared, once they are drawn and judged."""

    ties: dict[str, Weight] = Field(
        default={}, description="by measure: scores that differ by no more, in its own unit, are a tie"
    )
    harmful_below: dict[str, float] = Field(default={}, description="by judge: images that it scores lower are harmful")
    shown: int = Field(default=8, ge=1, description="pairs shown of the largest gains, and of the largest losses")


@dataclass(frozen=True)
class _Independence:
    trainings: dict[str, TrainingReward | None]
    shared: dict[str, list[str]]
    notices: list[str] = field(default_factory=list)


def evaluate_generators(
    folder: Path,
    evaluation: GeneratorEvaluation,
    adapters: Sequence[TunedAdapter],
    comparison: ComparisonSettings,
    progress: Progress,
    *,
    command: str,
    remake: str | None = None,
) -> dict[str, Any]:
    """Bring an evaluation to its end, write its files into `folder`, and return the content of evaluation.json.

    Raises PrefmillError for a damaged manifest beside an adapter, before anything is drawn, and as every run does.
    """
    trainings = {adapter.name: training_of(adapter.manifest) for adapter in adapters}
    run = draw_and_judge(folder, evaluation, progress, remake)
    found = read_values(run, evaluation, comparison.harmful_below)
    independence = _independence(run, evaluation, trainings)
    for notice in independence.notices:
        progress.notice(notice)
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "hardware": hardware_description(),
        "versions": package_versions(),
        "notices": independence.notices,
        "inputs": _inputs(run, evaluation, adapters, independence),
        "ties": comparison.ties,
        "levels": levels(found),
        "comparisons": compared(found, comparison.ties),
    }
    write_text(folder / RESULT, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    _write_pictures(run, found, result, independence, comparison.shown)
    return result


def _independence(
    run: Run, evaluation: GeneratorEvaluation, trainings: dict[str, TrainingReward | None]
) -> _Independence:
    judges = {judge.scorer: judge for judge in evaluation.judges if isinstance(judge, Judge)}
    keys = {scorer: _models(run, f"image_scores-{scorer}-{BASE}") for scorer in judges}
    shared = shared_with_reward(list(judges.values()), keys, trainings)
    notices = warnings_of(shared, trainings, has_oracle=ORACLE in evaluation.scorers)
    if any(notice == RANDOM_NOTICE for stage in run.stages() for notice in run.manifest(stage).get("notices", [])):
        notices.insert(0, RANDOM_NOTICE)
    return _Independence(trainings, shared, notices)


def _models(run: Run, stage: str) -> str:
    return ", ".join(run.manifest(stage).get("models", []))


def _inputs(
    run: Run, evaluation: GeneratorEvaluation, adapters: Sequence[TunedAdapter], independence: _Independence
) -> dict[str, Any]:
    """What went in, by content."""
    path, first = evaluation.prompts.path or "", evaluation.generators[0]
    prompts = run.manifest("prompts")
    table = None if path.startswith(HUB) else open_prompts(evaluation.prompts)
    generators: dict[str, Any] = {BASE: {"model": first.model, "key": _models(run, f"candidates-{BASE}")}}
    for adapter in adapters:
        training = independence.trainings[adapter.name]
        generators[adapter.name] = {
            "adapter": str(adapter.folder),
            "key": _models(run, f"candidates-{adapter.name}"),
            "method": training.method if training else None,
            "reward": dict(training.scorers) if training else None,
        }
    return {
        "prompts": {
            "name": table.name if table else path,
            "sha256": table.sha256 if table else None,
            "prompts": prompts["outputs"],
            "rejects": prompts["rejects"],
        },
        "drawing": {
            "guidance": list(evaluation.guidance),
            "images": len(first.guidance) // len(evaluation.guidance),
            "steps": first.steps,
            "seeds": "from each prompt's id, the same for every generator",
        },
        "generators": generators,
        "judges": {
            judge.scorer: {
                "model": judge.model,
                "key": _models(run, f"image_scores-{judge.scorer}-{BASE}"),
                "meaning": IMAGE_SCORERS[judge.scorer].meaning,
                "reward_of": independence.shared[judge.scorer],
            }
            for judge in evaluation.judges
            if isinstance(judge, Judge) and judge.generator == BASE
        },
    }


def _write_pictures(
    run: Run, found: Evaluated, result: Mapping[str, Any], independence: _Independence, shown: int
) -> None:
    tuned = []
    for name, comparison in result["comparisons"].items():
        measure = _sorted_by(found, name, independence)
        entry: dict[str, Any] = {"name": name, "comparison": comparison, "measure": measure}
        if measure:
            gains, losses = largest_changes(run, found, name, measure, shown)
            picture = run.folder / f"changes-{name}.png"
            entry["picture"] = picture.name if write_picture(picture, gains, losses) else None
            entry["sides"] = [
                (title, [(change, thumbnail(change.before), thumbnail(change.after)) for change in changes])
                for title, changes in (("Largest gains", gains), ("Largest losses", losses))
            ]
        tuned.append(entry)
    page = _template().render(
        name=run.folder.resolve().name, result=result, tuned=tuned, guidance=[f"{scale:g}" for scale in found.guidance]
    )
    write_text(run.folder / PAGE, page)


@cache
def _template() -> jinja2.Template:
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("generator.html")


def _sorted_by(found: Evaluated, name: str, independence: _Independence) -> str | None:
    """The measure that pairs are sorted by: the oracle's, else the first judge that was not the reward."""
    if ORACLE in found.measures:
        return ORACLE
    free = [measure for measure in found.measures if name not in independence.shared.get(measure, ())]
    return next(iter([*free, *found.measures]), None)
