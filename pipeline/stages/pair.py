"""Judged answers to preference pairs, by the pair policy.

Panels are decided one by one. Where the policy has limits over the whole run, the source looks at all panels first, and
what it refuses is part of the keys of its inputs: rows are made again where such a verdict changed, and a continued run
ends in the same rows as an undisturbed one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..declaration import Inputs, StageDeclaration
from ..pair_policy import STAGE as NAME
from ..pair_policy import PairPolicy
from ..pairs.whole_run import Proposal, Repeats, Verdicts, refused
from ..panels import PanelSource
from ..records import Pair, Reject
from ..sources import Panel
from ..stage import Source, Stage, digest
from .answer import STAGE as ANSWER
from .generate import STAGE as GENERATE
from .instruct import STAGE as INSTRUCT
from .judge import PANELS
from .judge import STAGE as JUDGE
from .prompts import STAGE as PROMPTS

_PORTION = 256  # panels held in memory while all are looked at


@dataclass(frozen=True)
class LimitedPanel(Panel):
    """A panel, and which of its pairs are refused for what else is in the run."""

    refused: Verdicts = field(default_factory=dict)


class PairStage(Stage[Panel, Pair]):
    """Make pairs of the answers to each instruction."""

    def __init__(self, policy: PairPolicy) -> None:
        self.policy = policy

    def compute(self, prepared: Sequence[Panel]) -> list[Pair | Reject]:
        """Apply the policy to every panel."""
        outcome: list[Pair | Reject] = []
        for panel in prepared:
            verdicts = panel.refused if isinstance(panel, LimitedPanel) else {}
            for item in self.policy.pairs(panel.instruction, panel.answers):
                verdict = verdicts.get(item.id) if isinstance(item, Pair) else None
                outcome.append(Reject(item.id, NAME, *verdict) if isinstance(item, Pair) and verdict else item)
        return outcome


class LimitedPanels:
    """The panels of a run with the verdicts over all of its pairs; only these are held in memory.

    `prompts` and `topics`: the prompt of every image that has one, and the topic of every prompt that has one.
    """

    def __init__(
        self, panels: PanelSource, policy: PairPolicy, prompts: Mapping[str, str], topics: Mapping[str, str]
    ) -> None:
        self.panels = panels
        self.refused: defaultdict[int, Verdicts] = defaultdict(dict)
        rows: dict[str, int] = {}
        proposals: list[Proposal] = []
        repeats = Repeats(policy, policy.near_duplicate)
        for start in range(0, len(panels), _PORTION):
            for row, panel in enumerate(panels.read(start, start + _PORTION), start):
                for pair in policy.pairs(panel.instruction, panel.answers):
                    if isinstance(pair, Reject):
                        continue
                    if verdict := repeats.verdict(pair.id, pair.chosen, pair.rejected):
                        self.refused[row][pair.id] = verdict
                        continue
                    rows[pair.id] = row
                    prompt = prompts.get(pair.image_id, pair.image_id)
                    proposals.append(Proposal(pair.id, prompt, topics.get(prompt), pair.margin))
        for pair_id, verdict in refused(proposals, policy).items():
            self.refused[rows[pair_id]][pair_id] = verdict

    def __len__(self) -> int:
        return len(self.panels)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return the ids of a range, with the verdicts where there are any."""
        return [
            f"{key} {digest(sorted(self.refused[row].items()))}" if row in self.refused else key
            for row, key in enumerate(self.panels.keys(start, stop), start)
        ]

    def read(self, start: int, stop: int) -> Sequence[Panel]:
        """Return a range of panels."""
        return [
            LimitedPanel(panel.instruction, panel.answers, panel.prompt, self.refused[row])
            if row in self.refused
            else panel
            for row, panel in enumerate(self.panels.read(start, stop), start)
        ]


def judged_panels(inputs: Inputs) -> PanelSource:
    """Return the instructions with all answers and their scores."""
    return PanelSource(inputs.once(PANELS), inputs.rows(JUDGE))


def pair_source(inputs: Inputs) -> Source[Panel]:
    """Return the judged panels, with the verdicts over the whole run where the policy has limits there."""
    panels, policy = judged_panels(inputs), inputs.settings
    return LimitedPanels(panels, policy, *origins(inputs)) if policy.needs_whole_run else panels


def origins(inputs: Inputs) -> tuple[dict[str, str], dict[str, str]]:
    """Return the prompt of every image that has one, and the topic of every prompt that has one."""
    images, prompts = inputs.rows(GENERATE), inputs.rows(PROMPTS)
    drawn = zip(images.column("id"), images.column("prompt_id"), strict=True)
    topics = zip(prompts.column("id"), prompts.column("topic"), strict=True)
    return {image: prompt for image, prompt in drawn if prompt}, {prompt: topic for prompt, topic in topics if topic}


STAGE = StageDeclaration(
    name=NAME,
    output=Pair,
    setting="pair",
    reads=(INSTRUCT, ANSWER, JUDGE),
    source=pair_source,
    build=lambda settings, engine: PairStage(settings),
    unit="instructions",
)
