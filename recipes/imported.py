"""The second half of PDS-DPO, for what others have drawn and answered."""

from __future__ import annotations

from .pds_dpo import pds_dpo
from .recipe import Recipe


def imported() -> Recipe:
    """For a run of imported images and answers: score, judge, pair and train with the paper's models."""
    return pds_dpo().model_copy(update={"responders": ()})
