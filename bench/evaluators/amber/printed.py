"""AMBER's numbers as the official script prints them.

All its denominators start at 0.001, F1 is of the rounded precision and recall with another small number below, and
everything is rounded to one digit. So a printed number can differ from the share it stands for in its last digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

_START = 0.001
_BESIDE_F1 = {"existence": 0.001}


def printed_choices(columns: Mapping[str, np.ndarray], parts: Sequence[np.ndarray], group: str) -> dict[str, float]:
    """Return accuracy, precision, recall and F1 of the answers of some dimensions, each a mask of the items."""
    right, both = (sum(float(columns[name][one].sum()) for one in parts) for name in ("right", "both"))
    items, said, true = (
        sum(_START + float(columns[name][one].sum()) for one in parts) for name in ("items", "said", "true")
    )
    accuracy, precision, recall = (
        round(over / under * 100, 1) for over, under in ((right, items), (both, said), (both, true))
    )
    p, r = precision / 100, recall / 100
    f1 = round(2 * p * r / (p + r + _BESIDE_F1.get(group, 0.0001)) * 100, 1)
    return {"accuracy": accuracy, "precision": precision, "recall": recall, "F1": f1}


def printed_descriptions(columns: Mapping[str, np.ndarray], kept: np.ndarray) -> dict[str, float]:
    """Return CHAIR, Cover, Hal and Cog of the descriptions among the items."""
    sums = {name: float(column[kept].sum()) for name, column in columns.items()}
    return {
        "CHAIR": round(sums["invented"] / (_START + sums["named"]) * 100, 1),
        "Cover": round(sums["found"] / (_START + sums["there"]) * 100, 1),
        "Hal": round(100 - (sums["items"] - sums["inventive"]) / (_START + sums["items"]) * 100, 1),
        "Cog": round(sums["hit"] / (_START + sums["expected"]) * 100, 1),
    }
