"""What the tables need: every file, image, key and program, found or named with where it is to be had.

Nothing here loads a model or asks a question; all of it is looked for, so that one look tells everything that is
missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ....base.errors import PrefmillError
from ....engine.responders.adapter import require_adapter
from ....engine.responders.catalogue import backend_of
from ....engine.responders.settings import ModelChoice
from ....engine.sources import check_checkpoint
from ....train.manifest import read_manifest
from ..amber.asking import amber_questions_to_ask
from ..amber.data import read_amber
from ..answering.questions import BenchmarkQuestion, read_questions
from ..answering.writing import missing_images
from ..halbench.coco import FILES, SOURCE
from ..halbench.language import NltkLanguage
from ..lmms.running import interpreter
from ..pope.asking import pope_questions_to_ask
from ..pope.questions import CATEGORIES
from ..pope.questions import read_questions as read_pope
from .settings import PaperSettings

AMBER_TASK = "d"
VAL2014 = "http://images.cocodataset.org/zips/val2014.zip"
_AMBER = "https://github.com/junyangwang0410/AMBER"
_RLAIF_V = "https://github.com/RLHF-V/RLAIF-V"
_MMHAL = "https://huggingface.co/datasets/Shengcao1006/MMHal-Bench"

LAYOUT: dict[str, dict[str, str]] = {
    "pope": {
        **{f"pope/coco_pope_{name}.json": "output/coco of https://github.com/RUCAIBox/POPE" for name in CATEGORIES},
        "coco/val2014": VAL2014,
    },
    "amber": {
        **{f"amber/{name}": f"data/ of {_AMBER}" for name in ("annotations.json", "relation.json", "safe_words.txt")},
        "amber/query_all.json": f"data/query of {_AMBER}",
        "amber/image": f"the link to the images in the README of {_AMBER}",
    },
    "objhal": {
        "objhal/questions.jsonl": f"eval/data/obj_halbench_300_with_image.jsonl of {_RLAIF_V}",
        "objhal/synonyms_refine.txt": f"eval/data of {_RLAIF_V}",
        **{f"coco/annotations/{name}": SOURCE for name in FILES},
    },
    "mmhal": {
        "mmhal/response_template.json": _MMHAL,
        "mmhal/images": f"the images of {_MMHAL}, by the names in image_src",
    },
    "lmms": {},
}
"""The files of each benchmark below the data folder, and where each is to be had."""

IMAGES = {"pope": "coco/val2014", "amber": "amber/image", "objhal": "coco/val2014", "mmhal": "mmhal/images"}
TEMPLATE = "mmhal/eval_gpt4.py"
"""The official request to MMHal's judge, taken where it is there."""


@dataclass(frozen=True)
class MissingNeed:
    """Something that is not there, for which benchmark, and where it is to be had or what makes it."""

    benchmark: str
    what: str
    source: str


def questions_of(benchmark: str, data: Path) -> Sequence[BenchmarkQuestion]:
    """Return a benchmark's questions from the data folder. Raises PrefmillError as their readers do."""
    if benchmark == "pope":
        return pope_questions_to_ask(read_pope([data / "pope"]))
    if benchmark == "amber":
        return amber_questions_to_ask(read_amber(data / "amber"), AMBER_TASK)
    file = {"objhal": "objhal/questions.jsonl", "mmhal": "mmhal/response_template.json"}[benchmark]
    return read_questions(benchmark, data / file).questions


def missing_needs(settings: PaperSettings) -> list[MissingNeed]:
    """Return everything that is missing for the tables."""
    found: list[MissingNeed] = []
    for benchmark in settings.benchmarks:
        gone = [
            MissingNeed(benchmark, str(settings.data / name), source)
            for name, source in LAYOUT[benchmark].items()
            if not (settings.data / name).exists()
        ]
        found += gone or list(_images(benchmark, settings.data))
    found += _tried(_checks(settings))
    return list(dict.fromkeys(found))


def _images(benchmark: str, data: Path) -> Iterator[MissingNeed]:
    """What is missing of a benchmark's images, whose files of questions are there."""
    if benchmark not in IMAGES:
        return
    folder = IMAGES[benchmark]
    try:
        questions = questions_of(benchmark, data)
        gone = missing_images(questions, data / folder)
    except PrefmillError as error:
        yield MissingNeed(benchmark, error.message, error.fix)
        return
    if gone:
        first = next(iter(gone.values()))
        source = LAYOUT[benchmark].get(folder, VAL2014)
        yield MissingNeed(benchmark, f"{len(gone)} images of {len(questions)} questions, as {first}", source)


Check = tuple[str, Callable[[], object]]


def _checks(settings: PaperSettings) -> Iterator[Check]:
    """What else has to work, by the benchmark that wants it."""
    yield "all", lambda: _check_model(settings.model)
    for row in settings.rows:
        if (adapter := row.adapter) is not None:
            yield f"row {row.name}", lambda adapter=adapter: require_adapter(adapter)
    if "objhal" in settings.benchmarks and not settings.light:
        yield "objhal", NltkLanguage
    if "objhal" in settings.benchmarks and (extractor := settings.extractor) is not None:
        yield "objhal", lambda: _check_model(extractor)
    if "mmhal" in settings.benchmarks:
        yield "mmhal", lambda: _check_judge(settings.judge)
    if "lmms" in settings.benchmarks:
        yield "lmms", interpreter
        for row in settings.rows:
            if row.training is not None:
                yield f"row {row.name}", lambda training=row.training: _check_training(training)


def _tried(checks: Iterator[Check]) -> Iterator[MissingNeed]:
    for benchmark, check in checks:
        try:
            check()
        except PrefmillError as error:
            yield MissingNeed(benchmark, error.message, error.fix)


def _check_model(choice: ModelChoice) -> None:
    backend = backend_of(choice)
    if backend.loads_weights:
        check_checkpoint(choice.model)
    backend.check(choice)


def _check_judge(choice: ModelChoice | None) -> None:
    if choice is None:
        raise PrefmillError("no judge for MMHal-Bench is given.", "give --judge MODEL --set judge.backend=openai")
    _check_model(choice)


def _check_training(folder: Path) -> None:
    if read_manifest(folder) is None:
        raise PrefmillError(
            f"{folder} is no finished training.", "table 1 merges a training's adapter: give its folder"
        )
