"""`prefmill eval pope`: yes/no questions about objects, from files of answers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from .evaluate_models import (
    Adapter,
    AllowPartial,
    Images,
    Model,
    ModelSettings,
    Report,
    Suffix,
    chosen_models,
    one_of,
    write_model_answers,
)
from .options import Json, as_path


def pope_command(
    answers: Annotated[
        list[str], typer.Option(help="answers, as FILE or CATEGORY=FILE (repeatable)", metavar="[CATEGORY=]FILE")
    ],
    questions: Annotated[
        list[Path] | None,
        typer.Option(
            help="POPE's question files or their folder (repeatable); by default evals/pope",
            parser=as_path,
            metavar="PATH",
        ),
    ] = None,
    match: Annotated[
        str, typer.Option(help="which answer is of which question: id, order, or auto (id where there are ids)")
    ] = "auto",
    compat: Annotated[str | None, typer.Option(help="another rule than the official one: lmms-eval")] = None,
    model: Model = None,
    adapter: Adapter = None,
    images: Images = None,
    suffix: Suffix = "",
    settings: ModelSettings = None,
    allow_partial: AllowPartial = False,
    to: Report = None,
    as_json: Json = False,
) -> None:
    """Evaluate answers to POPE: accuracy, precision, recall, F1 and yes ratio by category, and their means."""
    from ..bench.evaluators.answers.matching import Match
    from ..bench.evaluators.pope.asking import pope_questions_to_ask
    from ..bench.evaluators.pope.evaluating import evaluate_pope
    from ..bench.evaluators.pope.questions import CATEGORIES, read_questions
    from ..bench.evaluators.pope.rule import OFFICIAL, RULES
    from .evaluate_answers_table import finish

    rule = one_of("--compat", compat or OFFICIAL, RULES)
    by = one_of("--match", match, ("auto", "id", "order"))
    files: list[tuple[Path, str | None]] = []
    for one in answers:
        name, separator, path = one.partition("=")
        named = bool(separator) and name in CATEGORIES
        files.append((as_path(path if named else one), name if named else None))
    asked = read_questions(questions or [Path("evals/pope")])
    if model is not None:
        chosen = chosen_models(settings or [], model=model)
        target = files[0][0] if len(files) == 1 and not files[0][1] else None
        wanted = pope_questions_to_ask(asked)
        write_model_answers(wanted, target, images, adapter, chosen, suffix=suffix, allow_partial=allow_partial)
    evaluation = evaluate_pope(
        asked,
        files,
        RULES[rule],
        by=None if by == "auto" else cast(Match, by),
        partial=allow_partial,
    )
    finish(evaluation, to, as_json=as_json)
