"""Measured quality of the micro image checkpoints, on dev and test scenes that no training saw.

Everything is a plain number in a flat dictionary, ready for a manifest: shares from 0 to 1, PSNR in dB, residuals in
grey levels, t statistics as they are. `quick` measures a smaller sample, in seconds.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from ...engine.settings import EngineSettings
from ..teach.training import to_model_range
from ..world.candidates import GUIDANCE, Candidates, draw_candidates, open_generator
from ..world.oracle import judge
from ..world.render import render_all
from ..world.scenes import Split, sample_scenes
from .selection import paired_t, pick, score_candidates, selection_quality

_PROMPTS = 240
_QUICK_PROMPTS = 16
_SETTINGS = EngineSettings(device="cpu", dtype="float32")
_SPLITS: tuple[Split, ...] = ("dev", "test")


def measure_generator(root: Path, *, quick: bool = False) -> dict[str, float]:
    """Exact share per guidance scale, mean alignment and residual, and how true the autoencoder is."""
    measured: dict[str, float] = {}
    for split in _splits(quick):
        candidates = candidates_of(root, split, quick=quick)
        for number, scale in enumerate(GUIDANCE):
            measured[f"{split}_exact_at_{scale:g}"] = float(candidates.exact[:, number].mean())
        measured[f"{split}_alignment"] = float(candidates.alignment.mean())
        measured[f"{split}_residual"] = float(candidates.residual.mean())
    scenes = sample_scenes("dev", _QUICK_PROMPTS if quick else _PROMPTS, 0)
    pixels = to_model_range(render_all(scenes, 0))
    vae = open_generator(root / "text-to-image").autoencoder
    with torch.no_grad():
        decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)  # type: ignore[union-attr]
    measured["autoencoder_psnr"] = 10 * (4 / (decoded - pixels).square().mean()).log10().item()
    images = ((decoded + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    measured["autoencoder_same_scene"] = float(np.mean([verdict.exact for verdict in judge(images, scenes)]))
    return _rounded(measured)


def measure_image_reward(root: Path, *, quick: bool = False) -> dict[str, float]:
    """What the reward picks, against random choice, the best fixed guidance, and CLIP's and BLIP's picks."""
    return _measure_scorer(root, "image-reward", quick) | _against_others(root, quick)


def measure_clip(root: Path, *, quick: bool = False) -> dict[str, float]:
    """What CLIP picks, against random choice and the best fixed guidance."""
    return _measure_scorer(root, "clip", quick)


def measure_matching(root: Path, *, quick: bool = False) -> dict[str, float]:
    """What BLIP's matching head picks, against random choice and the best fixed guidance."""
    return _measure_scorer(root, "blip-matching", quick)


@cache
def candidates_of(root: Path, split: Split, *, quick: bool = False) -> Candidates:
    """The generator's candidates for the measured prompts of a split, drawn once per process."""
    scenes = sample_scenes(split, _PROMPTS, 1)[: _QUICK_PROMPTS if quick else _PROMPTS]
    return draw_candidates(open_generator(root / "text-to-image"), scenes, seed=7)


def _measure_scorer(root: Path, name: str, quick: bool) -> dict[str, float]:
    measured: dict[str, float] = {}
    for split in _splits(quick):
        candidates = candidates_of(root, split, quick=quick)
        quality = selection_quality(candidates.exact, _scores(root, name, candidates))
        measured |= {
            f"{split}_random": quality.random,
            f"{split}_picked": quality.picked,
            f"{split}_worst": quality.worst,
            f"{split}_best_fixed": float(candidates.exact.mean(0).max()),
            f"{split}_possible": float(candidates.exact.any(1).mean()),
            f"{split}_picked_minus_random_t": quality.t,
        }
    return _rounded(measured)


def _against_others(root: Path, quick: bool) -> dict[str, float]:
    measured: dict[str, float] = {}
    for split in _splits(quick):
        candidates = candidates_of(root, split, quick=quick)
        own = pick(candidates.exact, _scores(root, "image-reward", candidates))
        for other in ("clip", "blip-matching"):
            theirs = pick(candidates.exact, _scores(root, other, candidates))
            measured[f"{split}_minus_{other}"] = float((own - theirs).mean())
            measured[f"{split}_minus_{other}_t"] = paired_t(own - theirs)
    return _rounded(measured)


def _scores(root: Path, name: str, candidates: Candidates) -> np.ndarray:
    return score_candidates(name, str(root / name), candidates.images, candidates.prompts, _SETTINGS)


def _splits(quick: bool) -> tuple[Split, ...]:
    return _SPLITS[:1] if quick else _SPLITS


def _rounded(measured: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in measured.items()}
