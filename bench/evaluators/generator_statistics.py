"""Tuned against base in numbers: win rates with ties, differences and ratios, with intervals over the prompts.

What belongs together is compared: two images of the same prompt, guidance and noise. Images of one prompt are no
independent witnesses, so the bootstrap draws prompts, and a prompt's value is the mean over its pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..studies.study import Interval, bootstrap
from .generator import BASE
from .generator_values import Evaluated, Values
from .measures import Ratio, Resampling

ALL, BEST = "all", "against_best"


def compare(base: np.ndarray, tuned: np.ndarray, band: float = 0.0) -> dict[str, Any] | None:
    """Hold values [P, ...] of P prompts against the base's, pair by pair; NaN where there is none.

    `band`: by how much a value must differ to win or lose; equal to it is a tie. A tie is half a win in the win rate.
    None where no pair is whole.
    """
    differences = (tuned - base).reshape(len(base), -1)
    whole = np.isfinite(differences)
    if not whole.any():
        return None
    won, lost = differences > band, differences < -band
    points = np.where(whole, 0.5 + 0.5 * (won.astype(float) - lost), np.nan)
    return {
        "pairs": int(whole.sum()),
        "prompts": int(whole.any(1).sum()),
        "wins": int(won.sum()),
        "ties": int((whole & ~won & ~lost).sum()),
        "losses": int(lost.sum()),
        "base": float(base.reshape(len(base), -1)[whole].mean()),
        "tuned": float(tuned.reshape(len(base), -1)[whole].mean()),
        "win_rate": _plain(bootstrap(by_prompt(points))),
        "difference": _plain(bootstrap(by_prompt(differences))),
    }


def by_prompt(values: np.ndarray) -> np.ndarray:
    """The mean of each prompt's values [P, N] that are there; prompts without one are left out."""
    kept = values[np.isfinite(values).any(1)]
    return np.nanmean(kept, axis=1)


def ratio_of(over: np.ndarray, under: np.ndarray) -> Interval | None:
    """Return the ratio of two means over the same prompts [P] with its 95 % interval; None where it is none."""
    return Resampling([str(prompt) for prompt in range(len(over))]).interval(Ratio(over.tolist(), under.tolist()))


def compared(found: Evaluated, ties: dict[str, float]) -> dict[str, Any]:
    """Return all comparisons as plain values: by tuned generator, then measure, then guidance.

    `ties`: the bands of measures, in their own units. BEST holds the differences to the base at the scale where the
    base is best: tuning should gain more than the choice of a scale does.
    """
    tuned = [name for name in found.ids if name != BASE]
    return {
        name: {
            "preference": {
                measure: _against_best(found, values, name) | _scales(found, values, name, ties.get(measure, 0.0))
                for measure, values in found.measures.items()
            },
            "diversity": {space: _diversity(found, values, name) for space, values in found.spreads.items()},
            "harmful": {who: _scales(found, values, name) for who, values in found.harmful.items()},
        }
        for name in tuned
    }


def levels(found: Evaluated) -> dict[str, Any]:
    """Return the means of every generator: by measure, generator and guidance."""
    return {
        measure: {
            name: {scale: _mean(array[:, column]) for column, scale in enumerate(_named(found.guidance))}
            for name, array in values.items()
        }
        for measure, values in found.measures.items()
    }


def _scales(found: Evaluated, values: Values, name: str, band: float = 0.0) -> dict[str, Any]:
    base, tuned = values[BASE], values[name]
    columns = {scale: slice(column, column + 1) for column, scale in enumerate(_named(found.guidance))}
    if len(found.guidance) > 1:
        columns[ALL] = slice(None)
    own = {scale: compare(base[:, chosen], tuned[:, chosen], band) for scale, chosen in columns.items()}
    return {scale: result for scale, result in own.items() if result}


def _against_best(found: Evaluated, values: Values, name: str) -> dict[str, Any]:
    """Differences to the base at the scale where the base is best, whatever the tuned one's own scale."""
    means = {
        column: mean for column in range(len(found.guidance)) if (mean := _mean(values[BASE][:, column])) is not None
    }
    if not means:
        return {}
    best = max(means, key=lambda column: means[column])
    own = {
        scale: compare(values[BASE][:, best], values[name][:, column])
        for column, scale in enumerate(_named(found.guidance))
    }
    differences = {scale: result["difference"] for scale, result in own.items() if result}
    return {BEST: {"guidance": found.guidance[best], "difference": differences}}


def _diversity(found: Evaluated, values: Values, name: str) -> dict[str, Any]:
    base, tuned = values[BASE], values[name]
    columns = {scale: [column] for column, scale in enumerate(_named(found.guidance))}
    if len(found.guidance) > 1:
        columns[ALL] = list(range(len(found.guidance)))
    result = {}
    for scale, chosen in columns.items():
        whole = np.isfinite(base[:, chosen]).all(1) & np.isfinite(tuned[:, chosen]).all(1)
        if whole.any():
            over, under = tuned[whole][:, chosen].mean(1), base[whole][:, chosen].mean(1)
            ratio = ratio_of(over, under)
            result[scale] = {
                "prompts": int(whole.sum()),
                "base": float(under.mean()),
                "tuned": float(over.mean()),
                "ratio": None if ratio is None else _plain(ratio),
            }
    return result


def _mean(values: np.ndarray) -> float | None:
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def _named(guidance: tuple[float, ...]) -> list[str]:
    return [f"{scale:g}" for scale in guidance]


def _plain(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}
