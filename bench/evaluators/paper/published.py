"""What PDS-DPO printed (arXiv 2412.17417v1, tables 1 to 3), beside what its tables' columns are read from here.

Table 3's CHAIRi of the trained models is worse than the base's, and its POPE shows a precision without the recall that
pays for it: so recall, F1 and the share of yes stand beside it here, which the paper does not print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

BASE = "base"
PUBLISHED_BASE = "llava-1.5-7b"
"""What the printed numbers are of, within a checkpoint's name."""


@dataclass(frozen=True, slots=True)
class PaperColumn:
    """A column: a measure of a benchmark's report, by group and name, times `factor`."""

    title: str
    benchmark: str
    group: str
    measure: str
    factor: float = 1.0
    digits: int = 1


@dataclass(frozen=True)
class PaperTable:
    """A table's columns, and the numbers printed in it by row and column."""

    number: int
    title: str
    columns: Sequence[PaperColumn]
    printed: Mapping[str, Mapping[str, float]]
    notes: Sequence[str] = field(default=())

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """The benchmarks that its columns are of."""
        return tuple(dict.fromkeys(one.benchmark for one in self.columns))


def _pope(name: str, title: str) -> PaperColumn:
    return PaperColumn(f"POPE {title}", "pope", "mean of three", name, 100.0, 2)


def _rows(columns: Sequence[str], **values: Sequence[float]) -> dict[str, dict[str, float]]:
    return {name.removeprefix("of_"): dict(zip(columns, numbers, strict=True)) for name, numbers in values.items()}


_ABILITY = ("MME perception", "MMBench", "VQAv2", "TextVQA", "ScienceQA", "MM-Vet")
_HALLUCINATION = ("MMHal score", "MMHal hallucination rate", "AMBER accuracy", "AMBER F1", "POPE accuracy")
_SIZES = ("CHAIRs", "CHAIRi", "POPE accuracy", "POPE precision")

TABLES = (
    PaperTable(
        1,
        "general ability",
        tuple(PaperColumn(name, "lmms", "", name) for name in _ABILITY),
        _rows(
            _ABILITY,
            base=(1513.5, 64.3, 78.5, 58.2, 66.8, 31.1),
            of_9K=(1479.1, 64.4, 78.0, 56.9, 68.9, 34.1),
        ),
        ("VQAv2 is its validation set here, test-dev in the paper",),
    ),
    PaperTable(
        2,
        "hallucination",
        (
            PaperColumn("MMHal score", "mmhal", "all", "score", digits=2),
            PaperColumn("MMHal hallucination rate", "mmhal", "all", "hallucination rate"),
            PaperColumn("AMBER accuracy", "amber", "discriminative", "accuracy"),
            PaperColumn("AMBER F1", "amber", "discriminative", "F1"),
            _pope("accuracy", "accuracy"),
            _pope("F1", "F1"),
        ),
        _rows(_HALLUCINATION, base=(2.36, 51.0, 72.3, 75.6, 86.1), of_9K=(3.49, 25.0, 73.4, 75.6, 87.6)),
        ("the paper prints one number for POPE without saying which; 87.6 is its table 3's accuracy",),
    ),
    PaperTable(
        3,
        "pairs to train on",
        (
            PaperColumn("CHAIRs", "objhal", "all", "CHAIRs_refine"),
            PaperColumn("CHAIRi", "objhal", "all", "CHAIRi"),
            _pope("accuracy", "accuracy"),
            _pope("precision", "precision"),
            _pope("recall", "recall"),
            _pope("F1", "F1"),
            _pope("yes ratio", "yes"),
        ),
        _rows(
            _SIZES,
            base=(66.8, 12.7, 85.90, 89.10),
            of_2K=(47.3, 35.9, 82.10, 96.75),
            of_5K=(43.7, 28.0, 84.77, 97.91),
            of_7K=(42.4, 26.7, 87.52, 97.02),
            of_9K=(40.7, 24.8, 87.62, 97.81),
            of_12K=(39.0, 23.6, 88.14, 97.53),
        ),
        (
            "CHAIRs is CHAIRs_refine, as RLAIF-V's script reports it; the published objects were listed by GPT-3.5",
            "12K is of the paper's second version",
        ),
    ),
)
