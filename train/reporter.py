"""What a trainer on pairs of answers tells beside its steps: tokens, utilisation, and when chosen answers fall."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .job import TrainingJob
from .step_reporter import StepReporter, device_name
from .utilisation import UtilisationMeter, utilisation_meter
from .watch import CHOSEN_FALL, ChosenWatch


class Reporter(StepReporter):
    """See the module."""

    job: TrainingJob
    meter: UtilisationMeter | None = None
    tokens_before = 0.0

    def begin(self, before: Sequence[dict[str, float]], known: Sequence[str]) -> None:
        self.watch = ChosenWatch(self.job.config.beta, before, known)
        self.warnings = [note for note in known if note.startswith(CHOSEN_FALL)]
        if os.environ.get("RANK", "0") == "0":
            self._add_meter(device_name(self.job), self.world_size)

    def describe(self, logs: dict[str, float], pairs: int, seconds: float) -> dict[str, float]:
        told: dict[str, float] = {}
        if (tokens := self._tokens(logs)) is not None:
            told["tokens_per_second"] = round(tokens / seconds, 4)
        if self.meter:
            told["mfu"] = float(f"{self.meter(pairs / seconds):.4g}")
        return told

    def warn(self, line: dict[str, float]) -> str | None:
        return self.watch(line)

    def _add_meter(self, device: str, processes: int) -> None:
        try:
            self.meter = utilisation_meter(self.job, device, processes)
        except Exception as error:  # a model that is not known here in all its parts is trained all the same
            reason = next(iter(str(error).splitlines()), "")
            self.notes.append(f"no mfu is told: {type(error).__name__}: {reason}")

    def _tokens(self, logs: dict[str, float]) -> float | None:
        """Return the tokens read since the last line. TRL's count goes on from the process's first step."""
        if "num_tokens" not in logs:
            return logs.get("tokens")
        before, self.tokens_before = self.tokens_before, logs["num_tokens"]
        return logs["num_tokens"] - before
