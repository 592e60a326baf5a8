"""One row of the tables: every benchmark asked and evaluated, each with its own answers and report in TO/ROW."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ....base.errors import PrefmillError
from ....base.progress import Progress
from ....train.merge import merge
from ..amber.data import read_amber
from ..amber.evaluating import Describing, evaluate_amber
from ..answering.questions import read_questions
from ..answering.writing import Answering, write_answers
from ..answers.evaluation import Evaluation
from ..answers.records import read_input
from ..halbench.answers import read_described
from ..halbench.coco import read_truth
from ..halbench.evaluation import evaluate_halbench
from ..halbench.extracting import extract_objects
from ..halbench.language import language_of
from ..halbench.words import ObjectWords
from ..lmms.running import LmmsRun, run_tasks
from ..lmms.tasks import TASKS, report_content
from ..mmhal.evaluation import evaluate_mmhal
from ..mmhal.items import read_items
from ..mmhal.judging import Template, judge_items, read_template
from ..pope.evaluating import evaluate_pope
from ..pope.questions import read_questions as read_pope
from ..pope.rule import OFFICIAL, RULES
from ..report import report_of, write_report
from .needs import AMBER_TASK, IMAGES, TEMPLATE, questions_of
from .settings import PaperRow, PaperSettings

Report = dict[str, Any]


def report_row(row: PaperRow, settings: PaperSettings, command: str, progress: Progress) -> dict[str, Report]:
    """Return the reports of a row by benchmark. What was answered, judged or run before is taken as it is.

    Raises PrefmillError as the benchmarks do.
    """
    folder = settings.to / row.name
    reports: dict[str, Report] = {}
    for benchmark in settings.benchmarks:
        if benchmark == "lmms":
            reports[benchmark] = _lmms(row, settings, folder, command, progress)
        else:
            answers = _answers(benchmark, row, settings, folder, progress)
            reports[benchmark] = EVALUATORS[benchmark](answers, settings, progress).report(command)
        write_report(folder / f"{benchmark}.json", reports[benchmark])
        progress.line(f"{row.name}: {folder / benchmark}.json")
    return reports


def _answers(benchmark: str, row: PaperRow, settings: PaperSettings, folder: Path, progress: Progress) -> Path:
    suffix = settings.suffix if benchmark in {"pope", "amber"} else ""
    answering = Answering(settings.model, settings.data / IMAGES[benchmark], row.adapter, settings.engine, suffix)
    target = folder / f"{benchmark}.jsonl"
    return write_answers(target, questions_of(benchmark, settings.data), answering, progress).path


def _pope(answers: Path, settings: PaperSettings, progress: Progress) -> Evaluation:
    return evaluate_pope(read_pope([settings.data / "pope"]), [(answers, None)], RULES[OFFICIAL])


def _amber(answers: Path, settings: PaperSettings, progress: Progress) -> Evaluation:
    def describing() -> Describing:
        raise PrefmillError(f"{answers} holds descriptions.", "remove it: table 2 asks the yes/no questions alone")

    return evaluate_amber(read_amber(settings.data / "amber"), answers, describing=describing, task=AMBER_TASK)


def _objhal(answers: Path, settings: PaperSettings, progress: Progress) -> Evaluation:
    synonyms = settings.data / "objhal" / "synonyms_refine.txt"
    words = ObjectWords.read(synonyms)
    language = language_of(words.vocabulary, light=settings.light)
    questions = read_questions("objhal", settings.data / "objhal" / "questions.jsonl")
    file = read_described(answers, questions, partial=False)
    truth = read_truth(settings.data / "coco" / "annotations", {one.image for one in file.items}, words, language)
    extraction = None
    if settings.extractor is not None:
        spoken = [(one.question, one.text) for one in file.items]
        kept = answers.with_name(f"{answers.name}.objects")
        extraction = extract_objects(spoken, settings.extractor, kept, progress, engine=settings.engine)
    inputs = {"synonyms": read_input(synonyms, "--data")[1]}
    return evaluate_halbench(file, truth, words, language, inputs, extraction)


def _mmhal(answers: Path, settings: PaperSettings, progress: Progress) -> Evaluation:
    assert settings.judge is not None, "preflight asked for one"
    official = settings.data / TEMPLATE
    template = read_template(official) if official.is_file() else Template()
    file = read_items(answers, None, partial=False)
    kept = answers.with_name(f"{answers.name}.judged")
    verdicts = judge_items(file.items, settings.judge, template, kept, progress, engine=settings.engine)
    return evaluate_mmhal(file, verdicts)


EVALUATORS: dict[str, Callable[[Path, PaperSettings, Progress], Evaluation]] = {
    "pope": _pope,
    "amber": _amber,
    "objhal": _objhal,
    "mmhal": _mmhal,
}


def _lmms(row: PaperRow, settings: PaperSettings, folder: Path, command: str, progress: Progress) -> Report:
    """lmms-eval loads a checkpoint: an adapter is merged into its base first."""
    model = settings.model.model
    if row.training is not None:
        merged = folder / "merged"
        if not merged.exists():
            progress.line(f"{row.name}: merging into {merged}")
            merge(row.training, merged)
        model = str(merged.resolve())
    found = run_tasks(LmmsRun(model, settings.lmms_kind), TASKS, folder / "lmms", progress)
    return report_of("lmms", command, report_content(found, TASKS))
