"""POPE's two readings of an answer, and what is computed from them (arXiv 2305.10355).

official: evaluate.py of RUCAIBox/POPE, which LLaVA's eval_pope.py has too.
lmms-eval: its task `pope`, whose numbers are others: an answer that is not exactly yes or no ("Yes.") is wrong; recall
leaves out positive questions that were answered with neither; and its yes ratio is that of the questions' truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ....base.hallucination import YES_OR_NO, Share

OFFICIAL, LMMS_EVAL = "official", "lmms-eval"


@dataclass(frozen=True)
class PopeRule:
    """How answers are read and counted. `empty`: what a share of nothing is there; None leaves it undefined."""

    name: str
    version: int
    text: str
    measures: Mapping[str, Share]
    empty: float | None = None

    def said(self, answer: str) -> bool | None:
        """Return whether an answer says yes; None where it says neither."""
        if self.name == OFFICIAL:
            return not says_no(answer)
        return {"yes": True, "no": False}.get(answer.lower().strip())


def says_no(answer: str) -> bool:
    """Return whether the official rule reads a "no": one of three words before the first full stop. All else is yes.

    Only spaces separate words: "No!", "NO" and "no\\n" are a yes.
    """
    words = answer.split(".", maxsplit=1)[0].replace(",", "").split(" ")
    return not {"No", "not", "no"}.isdisjoint(words)


_NAMES = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1", "said_ratio": "yes ratio"}
_MEASURES = {shown: YES_OR_NO[name] for name, shown in _NAMES.items()}

RULES = {
    OFFICIAL: PopeRule(
        OFFICIAL,
        1,
        "an answer is no if 'No', 'not' or 'no' is among its words before the first full stop, else yes; yes is the "
        "positive class (evaluate.py of RUCAIBox/POPE, eval_pope.py of LLaVA). mean of three: the average over the "
        "categories, whose F1 is what LLaVA and the papers print.",
        _MEASURES,
    ),
    LMMS_EVAL: PopeRule(
        LMMS_EVAL,
        1,
        "an answer counts if it is exactly yes or no in lower case ('Yes.' is wrong); recall is over positive "
        "questions that were answered yes or no; its yes ratio is that of the truth and says nothing of "
        "the answers (task pope of lmms-eval). Not comparable with the official numbers.",
        {
            **_MEASURES,
            "recall": Share("both", ("both", "denied")),
            "F1": Share("both", ("said", "both", "denied"), 2.0),
            "yes ratio of the truth": Share("true", ("items",)),
        },
        0.0,
    ),
}
"""The rules by name."""
