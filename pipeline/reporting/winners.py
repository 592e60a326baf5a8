"""Who wins: how often each responder's answer is chosen and rejected, and against whom, by the recipe's names."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from ..records import Pair, Response, Score
from ..sources import responders_of, responses_folder
from ..store import Run

MOST_RESPONDERS = 12


def winners(run: Run) -> dict[str, Any] | None:
    """Return the responders, most wins first, and their duels; None for a run whose pairs name no answers.

    Only ids and numbers are held.
    """
    pairs = run.dataset("pairs", Pair)
    chosen, rejected = pairs.column("chosen_id"), pairs.column("rejected_id")
    if not any(chosen):
        return None
    owner: dict[str | None, str] = {}
    responders = responders_of(run)
    for name in responders:
        owner |= dict.fromkeys(run.dataset(responses_folder(name), Response).column("id"), name)
    scores: dict[str, list[float]] = defaultdict(list)
    judged = run.dataset("response_scores", Score)
    for answer, value in zip(judged.column("subject_id"), judged.column("value"), strict=True):
        if answer in owner:
            scores[owner[answer]].append(value)
    duels = Counter((owner.get(one, ""), owner.get(other, "")) for one, other in zip(chosen, rejected, strict=True))
    won, lost = Counter[str](), Counter[str]()
    for (one, other), count in duels.items():
        won[one] += count
        lost[other] += count
    answers = Counter(owner.values())
    names = sorted(responders, key=lambda name: (-won[name], name))[:MOST_RESPONDERS]
    rows = [
        {
            "name": name,
            "answers": answers[name],
            "won": won[name],
            "lost": lost[name],
            "rate": won[name] / (won[name] + lost[name]) if won[name] + lost[name] else None,
            "score": sum(scores[name]) / len(scores[name]) if scores[name] else None,
        }
        for name in names
    ]
    most = max((duels[one, other] for one in names for other in names), default=0) or 1
    table = [
        {"name": one, "cells": [{"count": duels[one, other], "part": duels[one, other] / most} for other in names]}
        for one in names
    ]
    return {"rows": rows, "duels": table, "names": names, "others": len(responders) - len(names)}
