"""Scores to one candidate per prompt: the best one, if it is good enough."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from ...base.settings import Settings
from ..records import Reject, Selection
from ..sources import Contest
from ..stage import Stage

STAGE = "selections"


class SelectConfig(Settings):
    """The published pipeline has no minimum: the best of four goes on however poor it is."""

    minimum_score: float | None = Field(default=None, description="reject prompts whose best candidate scores less")


class SelectStage(Stage[Contest, Selection]):
    """Keep the highest score; of equal ones the first drawn."""

    def __init__(self, config: SelectConfig) -> None:
        self.minimum = config.minimum_score

    def compute(self, prepared: Sequence[Contest]) -> list[Selection | Reject]:
        """Decide each contest."""
        return [self._decide(contest) for contest in prepared]

    def _decide(self, contest: Contest) -> Selection | Reject:
        if not contest.scores:
            return Reject(contest.prompt_id, STAGE, "no_image", "no candidate of this prompt has a score")
        (image, best), *others = sorted(contest.scores, key=lambda entry: -entry[1])
        if self.minimum is not None and best < self.minimum:
            return Reject(contest.prompt_id, STAGE, "below_minimum", f"best score {best:.4f} < {self.minimum}")
        return Selection(contest.prompt_id, image, best, best - others[0][1] if others else None)
