"""How well a micro annotator rates: asked as the stage asks it, about pictures of prompts that no training saw.

A half of the prompts has the generator's drawings, at four guidance scales, the other half roughened renders of the
prompt and of near misses. Per aspect: `exact` and `near`, how often a rating is the oracle's, and at most one off;
`agreement`, of pairs of one prompt's pictures that the oracle separates, how many are put in the same order (a tie
counts one half). `valid` is the share of requests whose first answer is the form that was asked for.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ...engine.responders.image_ratings import ASPECTS, ratings_form, ratings_request
from ...engine.responders.interface import Failure, Request, Responder
from ...engine.responders.structured import ask_forms
from ...engine.responders.transformers import TransformersResponder
from ...engine.settings import EngineSettings, Sampling
from ..teach.annotator_pictures import GUIDANCE
from ..teach.preferences import rendered_candidates
from ..world.aspects import aspect_ratings, overall, rubric
from ..world.candidates import Candidates, draw_candidates, judged_groups, open_generator
from ..world.oracle import Reading
from ..world.scenes import Split, sample_scenes

GREEDY = Sampling(max_new_tokens=96)
_PROMPTS, _QUICK_PROMPTS = 120, 16


def measure_annotator(root: Path, name: str, split: Split = "dev", *, quick: bool = False) -> dict[str, float]:
    """Measure the annotator `name` of `root`, with pictures of the generator there."""
    pictures = rated_pictures(root, split, _QUICK_PROMPTS if quick else _PROMPTS)
    annotator = TransformersResponder.from_pretrained(str(root / name), EngineSettings(device="cpu", dtype="float32"))
    truth = oracle_ratings(pictures)
    said = {aspect: annotate(annotator, pictures, aspect) for aspect in ASPECTS}
    measured = {"valid": float(np.mean([~np.isnan(ratings).any(1) for ratings in said.values()]))}
    for aspect in ASPECTS:
        off = np.abs(said[aspect] - truth[aspect])
        measured[f"{aspect}_exact"] = float(np.mean(off == 0))
        measured[f"{aspect}_near"] = float(np.mean(off <= 1))
        measured[f"{aspect}_agreement"] = agreement(said[aspect], truth[aspect])
    measured["overall_agreement"] = agreement(_overall(said), _overall(truth))
    return {key: round(value, 4) for key, value in measured.items()}


def rated_pictures(root: Path, split: Split, prompts: int) -> Candidates:
    """Prompts with four pictures each, half of them drawn by the generator in `root` and half rendered."""
    drawn = prompts // 2
    scenes = sample_scenes(split, drawn, 21)
    candidates = draw_candidates(open_generator(root / "text-to-image"), scenes, 22, guidance=GUIDANCE)
    rendered = rendered_candidates(prompts - drawn, 23, split)
    return candidates + judged_groups(rendered.scenes, rendered.images.reshape(-1, *rendered.images.shape[2:]))


def oracle_ratings(pictures: Candidates) -> dict[str, np.ndarray]:
    """The true ratings by aspect, each [N, G]."""
    rows = [
        [list(aspect_ratings(asked, Reading(scene, residual)).values()) for scene, residual in zip(*both, strict=True)]
        for asked, *both in zip(pictures.scenes, pictures.shown, pictures.residual.tolist(), strict=True)
    ]
    return dict(zip(ASPECTS, np.moveaxis(np.array(rows, float), -1, 0), strict=True))


def annotate(annotator: Responder, pictures: Candidates, aspect: str) -> np.ndarray:
    """What an annotator rates all pictures by one aspect, [N, G]; NaN where it abstains or its answer is no form."""
    count = pictures.images.shape[1]
    requests = [
        Request(ratings_request(prompt, {aspect: rubric(aspect)}, count), 0, tuple(map(Image.fromarray, images)))
        for prompt, images in zip(pictures.prompts, pictures.images, strict=True)
    ]
    forms = ask_forms(annotator, requests, ratings_form(count, (aspect,)), GREEDY, retries=0).filled
    rows = [
        [np.nan] * count if isinstance(form, Failure) else [each.rating or np.nan for each in form.images]
        for form in forms
    ]
    return np.array(rows, float)


def agreement(said: np.ndarray, truth: np.ndarray) -> float:
    """Of pairs in the rows of [N, G] that `truth` separates, how many `said` puts in the same order; NaN is a tie."""
    signs = [np.nan_to_num(np.sign(each[:, :, None] - each[:, None, :])) for each in (said, truth)]
    return float((1 + signs[0] * signs[1])[signs[1] != 0].mean() / 2)


def _overall(ratings: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.asarray(overall(ratings))  # type: ignore[arg-type]  # arrays add as numbers do
