"""`prefmill eval objhal`: Object HalBench on the user's own COCO annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base.errors import PrefmillError
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


def objhal_command(
    coco: Annotated[
        Path,
        typer.Option(help="folder of instances_ and captions_{train,val}2014.json", parser=as_path, metavar="FOLDER"),
    ],
    synonyms: Annotated[
        Path, typer.Option(help="the words for COCO's objects, as synonyms_refine.txt", parser=as_path, metavar="FILE")
    ],
    answers: Answers = None,
    questions: Questions = None,
    model: Model = None,
    adapter: Adapter = None,
    images: Images = None,
    limit: Limit = None,
    extractor: Annotated[
        str | None, typer.Option(help="a text model that lists the objects; without it they are the answers' words")
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(help="a request to --extractor with {question} and {answer}", parser=as_path, metavar="FILE"),
    ] = None,
    light: Annotated[
        bool, typer.Option("--light", help="read words without NLTK; the report says so, counts can differ")
    ] = False,
    settings: ModelSettings = None,
    allow_partial: AllowPartial = False,
    to: Report = None,
    as_json: Json = False,
) -> None:
    """Object HalBench: how often descriptions name objects that are not in COCO's annotations of the image."""
    from ..base.files import sha256_of
    from ..bench.evaluators.answering.questions import read_questions
    from ..bench.evaluators.answers.records import InputFile, read_input
    from ..bench.evaluators.halbench.answers import read_described
    from ..bench.evaluators.halbench.coco import read_truth
    from ..bench.evaluators.halbench.evaluation import evaluate_halbench
    from ..bench.evaluators.halbench.extracting import extract_objects
    from ..bench.evaluators.halbench.language import language_of
    from ..bench.evaluators.halbench.words import ObjectWords
    from .evaluate_answers_table import finish
    from .progress import watched

    chosen = chosen_models(settings or [], model=model, extractor=extractor)
    words = ObjectWords.read(synonyms)
    language = language_of(words.vocabulary, light=light)
    if template is not None and extractor is None:
        raise PrefmillError("--template is a request to --extractor, which is not given.", "give --extractor")
    asked = None if questions is None else read_questions("objhal", questions)
    if model is not None:
        wanted = asked or read_questions("objhal", required(questions, "--questions", "questions to ask --model"))
        answers = write_model_answers(
            wanted.questions, answers, images, adapter, chosen, limit=limit, allow_partial=allow_partial
        )
    answers = required(answers, "--answers", "answers to evaluate")
    file = read_described(answers, asked, partial=allow_partial)
    inputs = {"synonyms": InputFile(str(synonyms), sha256_of(synonyms))}
    extraction = None
    if extractor is not None:
        request = None if template is None else read_input(template, "--template")[0].decode("utf-8", "replace")
        with watched() as progress:
            extraction = extract_objects(
                [(one.question, one.text) for one in file.items],
                chosen.choices["extractor"],
                answers.with_name(f"{answers.name}.objects"),
                progress,
                template=request,
                engine=chosen.engine,
            )
    truth = read_truth(coco, {one.image for one in file.items}, words, language)
    found = evaluate_halbench(file, truth, words, language, inputs, extraction, partial=allow_partial)
    finish(found, to, as_json=as_json)
