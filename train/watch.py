"""What a training's numbers warn of, and what helps."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

WINDOW = 20
"""Lines of metrics.jsonl that the mean is taken over."""
FALL = 1.0
"""Nats below the reference: there an answer is e times less likely than before the training."""
CHOSEN_FALL = "chosen answers become less likely"


class ChosenWatch:
    """Says once that the chosen answers have become less likely than they are for the reference.

    A preference loss is content where the rejected answers fall faster. The reward is beta times the difference of
    an answer's summed log-probability to the reference, which is where the training began, for the same answer: so
    the difference does not depend on which answers were drawn.
    """

    def __init__(
        self, beta: float, lines: Sequence[Mapping[str, float]] = (), notes: Sequence[str] = (), *, window: int = WINDOW
    ) -> None:
        self.beta, self.window = beta, window
        self.said = any(note.startswith(CHOSEN_FALL) for note in notes)
        self.recent: deque[float] = deque(maxlen=window)
        for line in lines:
            self._take(line)

    def __call__(self, line: Mapping[str, float]) -> str | None:
        """Take a step's numbers; return what there is to say, or None."""
        self._take(line)
        mean = sum(self.recent) / max(len(self.recent), 1)
        if self.said or len(self.recent) < self.window or mean >= -FALL:
            return None
        self.said = True
        return (
            f"{CHOSEN_FALL}: by step {line['step']:.0f} their log-probability was {-mean:.1f} below the reference's, "
            f"mean of {self.window} lines; sft_weight (0.2, say) holds it up, a lower learning_rate slows the fall"
        )

    def _take(self, line: Mapping[str, float]) -> None:
        if "rewards/chosen" in line:
            self.recent.append(line["rewards/chosen"] / self.beta)
