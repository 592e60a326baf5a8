"""MMHal-Bench: the mean rating, how often an answer hallucinates, and how informative it is (arXiv 2309.14525).

Formulas of the benchmark's eval_gpt4.py, and of RLHF-V/RLAIF-V, eval/summarize_gpt_mmhal_review.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....base.errors import PrefmillError
from ....base.hallucination import Share
from ....engine.responders.interface import Answer, Failure
from ..answers.evaluation import Evaluation, ItemTable, Measure, Term
from ..answers.items import AnsweredItems
from .items import AnsweredItem
from .judging import Verdicts, rating_of

VERSION = 1
NO_HALLUCINATION = 3
"""Ratings from here on say that there is none; above it they count how informative the answer is, as below."""
SHARES: Mapping[str, tuple[Share, float]] = {
    "score": (Share("score", ("items",)), 1.0),
    "hallucination rate": (Share("hallucinated", ("items",)), 100.0),
    "informativeness": (Share("informative", ("items",), 1 / 3), 100.0),
}


def evaluate_mmhal(file: AnsweredItems[AnsweredItem], verdicts: Verdicts, *, partial: bool = False) -> Evaluation:
    """Return what a judge's verdicts on the answers come to, over all and by type.

    A verdict without exactly one rating counts 0, as officially, and is counted. Raises PrefmillError for items on
    which there is no verdict at all, unless `partial`, which leaves them out and says so.
    """
    failed = [one for one in verdicts.replies if isinstance(one, Failure)]
    if failed and (not partial or len(failed) == len(verdicts.replies)):
        raise PrefmillError(
            f"{len(failed)} of {len(verdicts.replies)} items have no verdict, as one: {failed[0].reason}: "
            f"{failed[0].detail}",
            "give the same command again, which asks for these only; or --allow-partial, which leaves them out",
        )
    judged = [
        (item, verdict_counts(reply.text))
        for item, reply in zip(file.items, verdicts.replies, strict=True)
        if isinstance(reply, Answer)
    ]
    counts = [found for _, found in judged]
    ids = [str(item.number + 1) for item, _ in judged]
    items = ItemTable.of(ids, ids, [item.type for item, _ in judged], counts, "hallucinated")
    types = list(dict.fromkeys(item.type for item in file.items))
    measures = [
        Measure(group, name, (Term(share, categories),), scale=scale)
        for group, categories in [("all", ()), *((one, (one,)) for one in types)]
        for name, (share, scale) in SHARES.items()
    ]
    unparsed = sum(one["unparsed"] for one in counts)
    notes = [*file.notes]
    notes += [f"{unparsed} verdicts state no rating, or several: they count 0"] if unparsed else []
    notes += [f"left out: {len(failed)} items without a verdict"] if failed else []
    if verdicts.template.version != "given":
        notes.append(
            "the request to the judge is ours: the numbers are not the published ones' (--template has theirs)"
        )
    return Evaluation(
        "mmhal",
        "MMHal-Bench",
        "mean rating 0 to 6 by a judge; an answer below 3 hallucinates; informativeness is the rating, or what it is "
        "above 3, of 3; types go by place",
        VERSION,
        _settings(verdicts),
        file.inputs,
        file.coverage,
        measures,
        items,
        {"all": {name: sum(one[name] for one in counts) for name in counts[0]}},
        notes,
    )


def verdict_counts(text: str) -> dict[str, int]:
    """Return the counts of one verdict."""
    rating = rating_of(text)
    score = rating or 0
    return {
        "items": 1,
        "score": score,
        "hallucinated": int(score < NO_HALLUCINATION),
        "informative": score - NO_HALLUCINATION if score >= NO_HALLUCINATION else score,
        "unparsed": int(rating is None),
    }


def _settings(verdicts: Verdicts) -> dict[str, Any]:
    template = verdicts.template
    return {"judge": verdicts.judge, "template": template.version, "template_sha256": template.sha256}
