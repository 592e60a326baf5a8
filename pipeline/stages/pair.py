"""Judged answers to preference pairs, by the pair policy."""

from __future__ import annotations

from collections.abc import Sequence

from ..declaration import Inputs, StageDeclaration
from ..pair_policy import STAGE as NAME
from ..pair_policy import PairPolicy
from ..panels import PanelSource
from ..records import Pair, Reject
from ..sources import Panel
from ..stage import Stage
from .answer import STAGE as ANSWER
from .instruct import STAGE as INSTRUCT
from .judge import PANELS
from .judge import STAGE as JUDGE


class PairStage(Stage[Panel, Pair]):
    """Make pairs of the answers to each instruction."""

    def __init__(self, policy: PairPolicy) -> None:
        self.policy = policy

    def compute(self, prepared: Sequence[Panel]) -> list[Pair | Reject]:
        """Apply the policy to every panel."""
        return [item for panel in prepared for item in self.policy.pairs(panel.instruction, panel.answers)]


def judged_panels(inputs: Inputs) -> PanelSource:
    """Return the instructions with all answers and their scores."""
    return PanelSource(inputs.once(PANELS), inputs.rows(JUDGE))


STAGE = StageDeclaration(
    name=NAME,
    output=Pair,
    setting="pair",
    reads=(INSTRUCT, ANSWER, JUDGE),
    source=judged_panels,
    build=lambda settings, engine: PairStage(settings),
    unit="instructions",
)
