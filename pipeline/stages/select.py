"""Scores to one candidate per prompt: the best one, if it is good enough."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from pydantic import Field

from ...base.settings import Settings
from ..declaration import Inputs, StageDeclaration
from ..records import Reject, Selection
from ..sources import Contest, Groups
from ..stage import Stage
from .generate import STAGE as GENERATE
from .prompts import STAGE as PROMPTS
from .score import STAGE as SCORE


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
            return Reject(contest.prompt_id, STAGE.name, "no_image", "no candidate of this prompt has a score")
        (image, best), *others = sorted(contest.scores, key=lambda entry: -entry[1])
        if self.minimum is not None and best < self.minimum:
            return Reject(contest.prompt_id, STAGE.name, "below_minimum", f"best score {best:.4f} < {self.minimum}")
        return Selection(contest.prompt_id, image, best, best - others[0][1] if others else None)


class ContestSource:
    """Per prompt, the scores of its candidates."""

    def __init__(self, inputs: Inputs) -> None:
        candidates, scores = inputs.rows(GENERATE), inputs.rows(SCORE)
        self.prompts: list[str] = inputs.rows(PROMPTS).column("id")
        self.images: list[str] = scores.column("subject_id")
        self.values = array("d", scores.column("value"))
        owner = dict(zip(candidates.column("id"), candidates.column("prompt_id"), strict=True))
        self.groups = Groups(self.prompts, (owner[image] for image in self.images))

    def __len__(self) -> int:
        return len(self.prompts)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return the ids of a range: the prompt's and those of its scored candidates."""
        return [
            " ".join([contest.prompt_id, *(image for image, _ in contest.scores)]) for contest in self.read(start, stop)
        ]

    def read(self, start: int, stop: int) -> Sequence[Contest]:
        """Return a range of contests."""
        return [
            Contest(self.prompts[row], tuple((self.images[one], self.values[one]) for one in self.groups.of(row)))
            for row in range(start, min(stop, len(self)))
        ]


STAGE = StageDeclaration(
    name="selections",
    output=Selection,
    setting="select",
    reads=(PROMPTS, GENERATE, SCORE),
    source=ContestSource,
    build=lambda settings, engine: SelectStage(settings),
    unit="prompts",
)
