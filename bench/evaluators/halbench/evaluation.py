"""Object HalBench: how often descriptions name objects that COCO's annotations do not have (arXiv 2312.00849).

CHAIRs_refine, the one that papers print, is the share of answers with an invented object among those that name an
object at all. Counts and formulas are those of RLHF-V/RLAIF-V, eval/eval_gpt_obj_halbench.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....base.errors import PrefmillError
from ....base.hallucination import CHAIR, Share
from ....engine.responders.interface import Failure
from ..answers.evaluation import Evaluation, ItemTable, Measure, Term
from ..answers.items import AnsweredItems
from ..answers.records import InputFile
from .answers import Described
from .coco import Truth
from .extracting import Extraction
from .language import Language
from .words import ObjectWords

VERSION = 1
TITLE = "Object HalBench"
SHARES: Mapping[str, Share] = {
    "CHAIRs_refine": Share("inventive", ("describing",)),
    "CHAIRs": CHAIR["chair_s"],
    "CHAIRi": CHAIR["chair_i"],
    "recall": CHAIR["recall"],
}
LENGTH = Share("words", ("items",))


def evaluate_halbench(
    file: AnsweredItems[Described],
    truth: Truth,
    words: ObjectWords,
    language: Language,
    inputs: Mapping[str, InputFile],
    extraction: Extraction | None = None,
    *,
    partial: bool = False,
) -> Evaluation:
    """Count the objects of every answer against its image's.

    With `extraction` the objects are those that a model listed. Raises PrefmillError for answers whose objects it did
    not list, unless `partial`, which leaves them out and says so.
    """
    answers, named, unlisted = file.items, _named(file.items, words, language, extraction), 0
    if failed := [one for one in named if isinstance(one, Failure)]:
        if not partial:
            raise PrefmillError(
                f"the objects of {len(failed)} of {len(answers)} answers were not listed, as one: {failed[0].reason}: "
                f"{failed[0].detail}",
                "give the same command again, which asks for these only; or --allow-partial, which leaves them out",
            )
        unlisted = len(failed)
        answers = tuple(one for one, found in zip(answers, named, strict=True) if not isinstance(found, Failure))
    counts = [
        answer_counts(one.text, found, truth.objects[one.image])
        for one, found in zip(answers, (one for one in named if not isinstance(one, Failure)), strict=True)
    ]
    if not counts:
        raise PrefmillError("no answer is left to evaluate.", "give answers")
    images = [str(one.image) for one in answers]
    ids = [f"{one.image}: {one.question}" for one in answers]
    items = ItemTable.of(ids, images, [""] * len(ids), counts, "inventive")
    measures = [Measure("all", name, (Term(share),), scale=100.0) for name, share in SHARES.items()]
    measures.append(Measure("all", "words", (Term(LENGTH),)))
    notes = [*file.notes]
    notes += [f"left out: {unlisted} answers whose objects the extractor did not list"] if unlisted else []
    return Evaluation(
        "objhal",
        TITLE,
        "CHAIR over COCO's 80 objects, in percent; true are those of the instances and of people's captions; "
        "CHAIRs_refine is a share of the answers that name an object",
        VERSION,
        _settings(language, extraction),
        {**inputs, **file.inputs} | {name: InputFile(name, sha) for name, sha in truth.files.items()},
        file.coverage,
        measures,
        items,
        {"all": {name: sum(one[name] for one in counts) for name in counts[0]}},
        notes,
    )


def answer_counts(text: str, named: Sequence[str], there: set[str]) -> dict[str, int]:
    """Return the counts of one answer that names objects, `there` being those of its image."""
    invented = sum(one not in there for one in named)
    return {
        "items": 1,
        "named": len(named),
        "invented": invented,
        "inventive": int(invented > 0),
        "describing": int(bool(named)),
        "found": len(there.intersection(named)),
        "there": len(there),
        "words": len(text.strip().split(" ")),
    }


def _named(
    answers: Sequence[Described], words: ObjectWords, language: Language, extraction: Extraction | None
) -> list[list[str] | Failure]:
    if extraction is None:
        return [words.named(one.text, language) for one in answers]
    return [one if isinstance(one, Failure) else words.of_phrases(one, language) for one in extraction.names]


def _settings(language: Language, extraction: Extraction | None) -> dict[str, Any]:
    if extraction is None:
        return {"objects": "words of the answer", "language": language.name}
    return {
        "objects": f"listed by {extraction.model}",
        "request": extraction.template,
        "request_sha256": extraction.template_sha256,
        "language": language.name,
    }
