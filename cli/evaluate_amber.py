"""`prefmill eval amber`: descriptions and yes/no questions of AMBER, from a file of answers alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..base.errors import PrefmillError
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

if TYPE_CHECKING:
    from ..bench.evaluators.amber.data import AmberData
    from ..bench.evaluators.amber.evaluating import Describing

Data = Annotated[
    Path, typer.Option(help="the folder of AMBER's annotations.json, relation.json and safe_words.txt", parser=as_path)
]
_DATA = Path("evals/amber")


def amber_command(
    answers: Annotated[Path, typer.Option(help="answers: rows of id and response", parser=as_path, metavar="FILE")],
    data: Data = _DATA,
    task: Annotated[
        str | None, typer.Option(help="a, g, d, de, da or dr, as the official script has them; by default a, g or d")
    ] = None,
    reading: Annotated[
        str, typer.Option(help="strict: exactly Yes or No (official); lenient: the first word, in any case")
    ] = "strict",
    similarity: Annotated[
        Path | None, typer.Option(help="the table of near-synonyms", parser=as_path, metavar="TABLE")
    ] = None,
    light: Annotated[
        bool, typer.Option("--light", help="descriptions without NLTK, which is not the official reading")
    ] = False,
    model: Model = None,
    adapter: Adapter = None,
    images: Images = None,
    suffix: Suffix = "",
    settings: ModelSettings = None,
    allow_partial: AllowPartial = False,
    to: Report = None,
    as_json: Json = False,
) -> None:
    """Evaluate answers to AMBER: CHAIR, Cover, Hal and Cog of descriptions, F1 of every dimension, the AMBER score."""
    from ..bench.evaluators.amber.asking import amber_questions_to_ask
    from ..bench.evaluators.amber.counting import LENIENT, STRICT
    from ..bench.evaluators.amber.data import TASKS, read_amber
    from ..bench.evaluators.amber.evaluating import evaluate_amber
    from .evaluate_answers_table import finish

    one_of("--reading", reading, (STRICT, LENIENT))
    if task is not None:
        one_of("--task", task, TASKS)
    files = read_amber(data)
    if model is not None:
        chosen = chosen_models(settings or [], model=model)
        wanted = amber_questions_to_ask(files, task)
        write_model_answers(wanted, answers, images, adapter, chosen, suffix=suffix, allow_partial=allow_partial)
    evaluation = evaluate_amber(
        files,
        answers,
        describing=lambda: describing_of(files, similarity, light=light),
        task=task,
        reading=reading,
        partial=allow_partial,
    )
    finish(evaluation, to, as_json=as_json)


def describing_of(data: AmberData, similarity: Path | None, *, light: bool) -> Describing:
    """How descriptions are read: with NLTK and a table, or lightly. Raises PrefmillError where one of them is missing.

    The light reading takes the table too where one is given.
    """
    from ..bench.evaluators.amber.evaluating import Describing
    from ..bench.evaluators.amber.nouns import light_nouns, nltk_nouns
    from ..bench.evaluators.amber.similarity import OFFICIAL_MODEL, read_similarity

    if similarity is None and not light:
        raise PrefmillError(
            "AMBER's descriptions need a table of near-synonyms",
            "give --similarity TABLE (prefmill eval amber-similarity --to TABLE computes it once), or --light for a "
            "reading without, which is not the official one",
        )
    table = None if similarity is None else read_similarity(similarity, data.vocabulary)
    notes = []
    if light:
        nouns, named = light_nouns(data.vocabulary), "light: words by spelling, without NLTK"
        notes.append("light: no part-of-speech tags and lemmas; not comparable with official numbers")
    else:
        nouns, version = nltk_nouns()
        named = f"NLTK {version}"
    if table is None:
        notes.append("light: near-synonyms are not looked for")
    elif not table.model.startswith(OFFICIAL_MODEL):
        notes.append(f"near-synonyms are those of {table.model}; the official numbers are of {OFFICIAL_MODEL}")
    return Describing(
        nouns,
        table or (lambda one, other: one == other),
        {"nouns": named, "near-synonyms": table.model if table else "none"},
        {"similarity": table.source} if table else {},
        official=not light and table is not None and table.model.startswith(OFFICIAL_MODEL),
        notes=tuple(notes),
    )


def similarity_command(
    to: Annotated[Path, typer.Option(help="the table to write", parser=as_path, metavar="TABLE")],
    data: Data = _DATA,
    model: Annotated[str, typer.Option(help="a spaCy pipeline with vectors")] = "en_core_web_lg",
) -> None:
    """Compute once which of AMBER's words are near-synonyms, as the official script has it from spaCy's vectors."""
    from ..bench.evaluators.amber.data import read_amber
    from ..bench.evaluators.amber.similarity import spacy_pipeline, write_similarity

    files = read_amber(data)
    pipeline, name = spacy_pipeline(model)
    pairs = write_similarity(to, files.vocabulary, pipeline, name)
    typer.echo(f"{pairs:,} pairs of {len(files.vocabulary):,} words by {name}: {to}")
