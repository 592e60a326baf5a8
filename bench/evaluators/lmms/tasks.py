"""The measures of general ability that the papers print, as lmms-eval calls them, and how its results are read.

lmms-eval's results are a file `DATE_results.json`: by task, its metrics under `NAME,FILTER` (in some versions
`TASK/NAME,FILTER`), shares as 0 to 1. A number is given in the papers' unit, beside the name that it was read from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ....base.errors import PrefmillError
from ..answers.records import InputFile, read_input

_OTHERS = frozenset({"alias", "samples"})


@dataclass(frozen=True, slots=True)
class AbilityMeasure:
    """A measure as papers name it: the task, the metric's names over the versions of lmms-eval, and the unit."""

    name: str
    task: str
    metrics: tuple[str, ...]
    scale: float = 1.0
    note: str = ""


MEASURES = (
    AbilityMeasure("MME perception", "mme", ("mme_perception_score", "mme_percetion_score")),
    AbilityMeasure("MME cognition", "mme", ("mme_cognition_score",)),
    AbilityMeasure("MMBench", "mmbench_en_dev", ("gpt_eval_score",), note="asks a judge where a letter is not clear"),
    AbilityMeasure("VQAv2", "vqav2_val", ("exact_match",), 100.0, "papers print test-dev, which needs a submission"),
    AbilityMeasure(
        "TextVQA", "textvqa_val", ("exact_match",), 100.0, "LLaVA's own numbers have OCR tokens in the prompt"
    ),
    AbilityMeasure("ScienceQA", "scienceqa_img", ("exact_match",), 100.0),
    AbilityMeasure("MM-Vet", "mmvet", ("gpt_eval_score",), note="asks a judge"),
    AbilityMeasure("VizWiz", "vizwiz_vqa_val", ("exact_match",), 100.0),
    AbilityMeasure("MMMU", "mmmu_val", ("mmmu_acc",), 100.0),
    AbilityMeasure("SEED", "seedbench", ("seed_image", "seed_all"), 100.0),
)
TASKS = tuple(dict.fromkeys(one.task for one in MEASURES[:7]))
"""What v1 of PDS-DPO's table 1 has."""


@dataclass(frozen=True)
class LmmsResults:
    """What a file of results says: metrics by task, of how many of its questions, by which version and model."""

    source: InputFile
    metrics: Mapping[str, Mapping[str, float]]
    samples: Mapping[str, tuple[int, int]]
    model: str
    version: str
    limit: str | None

    def measures(self) -> list[dict[str, Any]]:
        """Return the papers' measures of these tasks, `value` None where the task does not have the metric."""
        found = []
        for one in MEASURES:
            if (own := self.metrics.get(one.task)) is None:
                continue
            name = next((name for name in one.metrics if name in own), None)
            value = None if name is None else one.scale * own[name]
            found.append({"name": one.name, "task": one.task, "metric": name, "value": value, "note": one.note})
        return found

    def partial(self) -> list[str]:
        """Return the tasks of which not all questions were asked."""
        return [task for task, (asked, there) in self.samples.items() if asked < there]


def read_results(path: Path) -> LmmsResults:
    """Read lmms-eval's file of results. Raises PrefmillError for another file, and for a metric that is NaN."""
    fix = "give the *_results.json that lmms-eval wrote"
    data, source = read_input(path, "--results")
    try:
        content = json.loads(data)
        tasks = {task: _numbers(task, own) for task, own in content["results"].items()}
        samples = {task: (int(own["effective"]), int(own["original"])) for task, own in _samples(content)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PrefmillError(f"{path} holds no results of lmms-eval ({type(error).__name__}: {error})", fix) from error
    if not any(tasks.values()):
        raise PrefmillError(f"{path} holds no number.", fix)
    for task, own in tasks.items():
        if wrong := [name for name, value in own.items() if not math.isfinite(value)]:
            raise PrefmillError(f"{path}: {task}: {wrong[0]} is {own[wrong[0]]}.", "run this task again")
    config = content.get("config") or {}
    limit = config.get("limit")
    return LmmsResults(
        source,
        tasks,
        samples,
        str(content.get("model_name") or config.get("model_args") or ""),
        str(content.get("lmms_eval_version") or content.get("git_hash") or ""),
        None if limit is None else str(limit),
    )


def report_content(results: Sequence[LmmsResults], wanted: Sequence[str]) -> dict[str, Any]:
    """Return the results of several files as a report's content. Raises PrefmillError for a task without results."""
    measures = [one for each in results for one in each.measures()]
    metrics = {task: dict(own) for each in results for task, own in each.metrics.items()}
    if missing := [task for task in wanted if not metrics.get(task)]:
        raise PrefmillError(f"there are no results of {', '.join(missing)}.", "run them, or leave them out of --tasks")
    partial = sorted({task for each in results for task in each.partial()})
    notes = [f"only a part of {', '.join(partial)} was asked: not comparable"] if partial else []
    return {
        "title": "general ability by lmms-eval",
        "models": sorted({each.model for each in results}),
        "lmms_eval": sorted({each.version for each in results}),
        "inputs": [asdict(each.source) for each in results],
        "measures": measures,
        "metrics": metrics,
        "samples": {task: list(count) for each in results for task, count in each.samples.items()},
        "notes": notes,
    }


def _samples(content: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(task, own) for task, own in (content.get("n-samples") or {}).items() if own]


def _numbers(task: str, own: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a task that are numbers, without the filter and the task in their names, deviations left out."""
    found: dict[str, float] = {}
    for name, value in own.items():
        plain = name.partition(",")[0].removeprefix(f"{task}/")
        if plain in _OTHERS or plain.endswith("_stderr") or isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            found.setdefault(plain, float(value))
    return found
