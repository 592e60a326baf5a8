"""Does selection help? The candidates of a micro-world run, judged by the oracle.

In the micro world a prompt says exactly what its image must show, and the oracle reads exactly what it does show. So
a run's own records suffice: the prompt is parsed back to its scene, each candidate is held against it, and picking by
the run's scores is compared with picking at random, with always taking one guidance scale, and with CLIP.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.errors import PrefmillError
from ..engine.images import decode_image
from ..engine.settings import MICRO_PREFIX, EngineSettings
from ..micro.measure.selection import paired_t, pick, score_candidates, selection_quality
from ..micro.world.candidates import judged_groups
from ..micro.world.language import parse_caption
from ..micro.world.scenes import Scene
from ..pipeline.records import Candidate, Prompt, Score
from ..pipeline.store import Run


@dataclass(frozen=True)
class JudgedCandidates:
    """N prompts with G candidates each: `images` [N, G, H, W, 3]; `exact`, `scores` (the run's reward) [N, G]."""

    scenes: list[Scene]
    prompts: list[str]
    topics: list[str]
    guidance: tuple[float, ...]
    images: np.ndarray
    exact: np.ndarray
    scores: np.ndarray


def judged_candidates(run: Run) -> JudgedCandidates:
    """Hold a run's candidates against their prompts. Raises PrefmillError for prompts that are no micro scenes."""
    scores = {score.subject_id: score.value for score in run.dataset("image_scores", Score)}
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in run.dataset("candidates", Candidate):
        if candidate.id in scores:
            groups[str(candidate.prompt_id)].append(candidate)
    widest = max(map(len, groups.values()), default=0)
    prompts = [prompt for prompt in run.dataset("prompts", Prompt) if len(groups[prompt.id]) == widest > 0]
    scenes = [scene for prompt in prompts if (scene := parse_caption(prompt.text))]
    if not prompts or len(scenes) < len(prompts):
        raise PrefmillError(f"{run.folder} holds prompts that describe no micro scene", "give a run of `prefmill demo`")
    chosen = [sorted(groups[prompt.id], key=lambda row: row.guidance or 0.0) for prompt in prompts]
    images = np.stack([[np.asarray(decode_image(row.image)) for row in rows] for rows in chosen])
    judged = judged_groups(scenes, images.reshape(-1, *images.shape[2:]))
    return JudgedCandidates(
        scenes,
        [prompt.text for prompt in prompts],
        [prompt.topic or "" for prompt in prompts],
        tuple(row.guidance or 0.0 for row in chosen[0]),
        images,
        judged.exact,
        np.array([[scores[row.id] for row in rows] for rows in chosen]),
    )


def selection_results(candidates: JudgedCandidates, settings: EngineSettings) -> dict[str, Any]:
    """Return shares of prompts whose image is exactly right, by how it was picked, and the paired t of picked - random.

    The micro world's CLIP picks for comparison.
    """
    quality = selection_quality(candidates.exact, candidates.scores)
    picked = pick(candidates.exact, candidates.scores)
    by_clip = pick(candidates.exact, micro_scores(candidates, "clip", settings))
    return {
        "random_exact": quality.random,
        "picked_exact": quality.picked,
        "worst_exact": quality.worst,
        "clip_exact": float(by_clip.mean()),
        "best_fixed_guidance_exact": float(candidates.exact.mean(0).max()),
        "n": len(candidates.scenes),
        "paired_t": quality.t,
        "picked_minus_clip_t": paired_t(picked - by_clip),
        "exact_by_guidance": _by_guidance(candidates.guidance, candidates.exact.mean(0)),
    }


def micro_scores(candidates: JudgedCandidates, name: str, settings: EngineSettings) -> np.ndarray:
    """Return scores [N, G] of the candidates by the micro world's `clip` or `blip-matching`."""
    return score_candidates(name, f"{MICRO_PREFIX}{name}", candidates.images, candidates.prompts, settings)


def guidance_share(candidates: JudgedCandidates) -> dict[str, float]:
    """Return how often each guidance scale was picked (the paper's Fig. 4)."""
    counts = Counter(candidates.scores.argmax(1).tolist())
    shares = np.array([counts[column] / len(candidates.scenes) for column in range(len(candidates.guidance))])
    return _by_guidance(candidates.guidance, shares)


def _by_guidance(guidance: tuple[float, ...], values: np.ndarray) -> dict[str, float]:
    return {f"{scale:g}": float(value) for scale, value in zip(guidance, values, strict=True)}
