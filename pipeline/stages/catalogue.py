"""The stages that there are, in the order in which data goes through them: for whoever reads runs of any origin."""

from __future__ import annotations

from typing import Any

from ..declaration import StageDeclaration
from ..records import Selection
from .annotate import STAGE as ANNOTATE
from .answer import STAGE as ANSWER
from .generate import STAGE as GENERATE
from .instruct import STAGE as INSTRUCT
from .judge import STAGE as JUDGE
from .judgements import STAGE as JUDGEMENTS
from .pair import STAGE as PAIR
from .prefer import STAGE as PREFER
from .prompts import STAGE as PROMPTS
from .score import STAGE as SCORE
from .select import STAGE as SELECT


def _only_imported(*_: Any) -> Any:
    raise NotImplementedError("picks are imported; no loop makes them")


PICK = StageDeclaration("picks", Selection, "", _only_imported, _only_imported)
"""Which image of a prompt an imported table calls the best."""

STAGES = (
    *(PROMPTS, GENERATE, ANNOTATE, PREFER, PICK, SCORE, SELECT),
    *(INSTRUCT, ANSWER, JUDGEMENTS, JUDGE, PAIR),
)
