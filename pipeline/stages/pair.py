"""Judged answers to preference pairs, by the pair policy."""

from __future__ import annotations

from collections.abc import Sequence

from ..pair_policy import PairPolicy, make_pair
from ..records import Pair, Reject
from ..sources import Panel
from ..stage import Stage


class PairStage(Stage[Panel, Pair]):
    """Make at most one pair per instruction."""

    def __init__(self, policy: PairPolicy) -> None:
        self.policy = policy

    def compute(self, prepared: Sequence[Panel]) -> list[Pair | Reject]:
        """Apply the policy to every panel."""
        return [item for panel in prepared for item in make_pair(panel.instruction, panel.answers, self.policy)]
