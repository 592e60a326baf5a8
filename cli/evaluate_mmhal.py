"""`prefmill eval mmhal`: MMHal-Bench with a judge of one's choice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .evaluate_models import (
    Adapter,
    AllowPartial,
    Answers,
    Images,
    Limit,
    Model,
    ModelSettings,
    Questions,
    Report,
    chosen_models,
    required,
    write_model_answers,
)
from .options import Json, as_path


def mmhal_command(
    judge: Annotated[str, typer.Option(help="the model that judges: a folder, hub id, or a server's name of it")],
    answers: Answers = None,
    questions: Questions = None,
    model: Model = None,
    adapter: Adapter = None,
    images: Images = None,
    limit: Limit = None,
    template: Annotated[
        Path | None,
        typer.Option(
            help="the request to the judge: MMHal-Bench's eval_gpt4.py, or a text with four {}; by default ours",
            parser=as_path,
            metavar="FILE",
        ),
    ] = None,
    settings: ModelSettings = None,
    allow_partial: AllowPartial = False,
    to: Report = None,
    as_json: Json = False,
) -> None:
    """MMHal-Bench: a judge rates 96 answers; score, hallucination rate, informativeness, by type. Continues."""
    from ..bench.evaluators.answering.questions import read_questions
    from ..bench.evaluators.mmhal.evaluation import evaluate_mmhal
    from ..bench.evaluators.mmhal.items import read_items
    from ..bench.evaluators.mmhal.judging import Template, judge_items, read_template
    from .evaluate_answers_table import finish
    from .progress import watched

    chosen = chosen_models(settings or [], model=model, judge=judge)
    request = Template() if template is None else read_template(template)
    if model is not None:
        asked = read_questions("mmhal", required(questions, "--questions", "questions to ask --model"))
        answers = write_model_answers(
            asked.questions, answers, images, adapter, chosen, limit=limit, allow_partial=allow_partial
        )
        questions = None  # the rows are the template's, with the answers
    answers = required(answers, "--answers", "answers to evaluate")
    file = read_items(answers, questions, partial=allow_partial)
    with watched() as progress:
        verdicts = judge_items(
            file.items,
            chosen.choices["judge"],
            request,
            answers.with_name(f"{answers.name}.judged"),
            progress,
            engine=chosen.engine,
        )
    finish(evaluate_mmhal(file, verdicts, partial=allow_partial), to, as_json=as_json)
