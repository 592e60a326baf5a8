"""The ways of prompts to scored images that the synthesis benchmark compares, on the micro world's prompts.

- `authors`: PDS-DPO's published script, on the same weights. One image at a time through the library's pipeline, saved
  as a PNG; the file is read back, and ImageReward scores one image at a time, its prompt padded to 35 tokens. Their
  winner's JPEG is left out.
- the product: the micro recipe's stages `candidates` and `image_scores` as `prefmill run` executes them, batches of 64
  images, scores taken from memory beside the drawing, PNG files encoded in threads, shards committed to a run's folder.
"""

# diffusers exports lazily, which pyright takes for private use.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline

from ..base.progress import Progress
from ..compile.build import build_engine
from ..engine.artifact import Artifact
from ..engine.backends.catalogue import DIRECT
from ..engine.device import resolve_device, resolve_dtype
from ..engine.images import decode_image
from ..engine.scorers.image_reward import MAX_TEXT_TOKENS, ImageRewardScorer
from ..engine.settings import EngineSettings
from ..engine.sources import resolve_checkpoint
from ..micro.measure.held_out import held_out_scenes
from ..pipeline.execute.local import run_tasks
from ..pipeline.prompts import read_prompts
from ..pipeline.records import Candidate, Prompt, Score
from ..pipeline.stage import Stage, Task
from ..pipeline.stages.generate import GenerateStage
from ..pipeline.stages.score import ScoreStage
from ..pipeline.store import Run
from ..pipeline.synthesis import tasks_of
from ..recipes.recipe import Recipe
from .micro_recipe import micro_recipe

_STAGES = ("prompts", "candidates", "image_scores")


@dataclass(frozen=True)
class ScoredImages:
    """`images` uint8 [prompts, scales, H, W, 3] and their `scores` [prompts, scales]."""

    images: np.ndarray
    scores: np.ndarray


def micro_prompts(folder: Path, count: int) -> Recipe:
    """The micro recipe on the demo's first `count` prompts, whose file is written into `folder`."""
    scenes, _ = held_out_scenes("test", 240, 400, 1)
    return micro_recipe(folder, scenes[:count], 1)


class AuthorsPath:
    """One image at a time, from memory to a file and back."""

    def __init__(self, recipe: Recipe) -> None:
        config = self.config = recipe.generate
        self.prompts = [row for row in read_prompts(recipe.prompts) if isinstance(row, Prompt)]
        folder = resolve_checkpoint(config.model)
        self.pipeline: Any = StableDiffusion3Pipeline.from_pretrained(
            folder, text_encoder_3=None, tokenizer_3=None, torch_dtype=torch.float32
        )
        self.pipeline.set_progress_bar_config(disable=True)
        self.side = int(self.pipeline.transformer.config.sample_size * self.pipeline.vae_scale_factor)
        self.scorer = ImageRewardScorer.from_pretrained(recipe.score.model, EngineSettings(device="cpu"))

    def __call__(self) -> ScoredImages:
        """Draw, save, read back and score every image."""
        images, scores = [], []
        with tempfile.TemporaryDirectory() as temporary:
            for prompt in self.prompts:
                files = []
                for number, guidance in enumerate(self.config.guidance, start=1):
                    files.append(Path(temporary) / f"{prompt.index}-{number}.png")
                    self._draw(prompt.text, guidance, prompt.index * 1000 + number).save(files[-1])
                for file in files:
                    picture = decode_image(file.read_bytes())
                    scores.append(self._score(prompt.text, picture))
                    images.append(np.asarray(picture))
        return _outcome(images, scores, len(self.config.guidance))

    def _draw(self, prompt: str, guidance: float, seed: int) -> Any:
        return self.pipeline(
            prompt,
            negative_prompt="",
            num_inference_steps=self.config.steps,
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(seed),
            width=self.side,
            height=self.side,
            max_sequence_length=self.config.t5_tokens,
        ).images[0]

    def _score(self, prompt: str, picture: Any) -> float:
        text = self.scorer.tokenizer(
            prompt, padding="max_length", truncation=True, max_length=MAX_TEXT_TOKENS, return_tensors="pt"
        )
        with torch.no_grad():
            pixels = self.scorer.preprocess([picture])
            return self.scorer.model(pixels, text.input_ids, text.attention_mask).item()


class ProductPath:
    """The stages under one backend, executed as a run executes them, in a run's folder of its own for every call.

    Models are loaded and engines built when it is made. Raises PrefmillError for a backend that is not installed.
    """

    def __init__(self, recipe: Recipe, backend: str, engines: Path) -> None:
        plain = recipe.engine.model_copy(update={"device": "cpu", "artifacts": str(engines)})
        self.built: list[Artifact] = []
        if backend not in DIRECT:
            for stage in _stages(recipe, plain).values():
                self.built += _engines_of(stage, backend, plain, engines)
        self.recipe = recipe
        self.stages = _stages(recipe, plain.model_copy(update={"backend": backend}))

    def __call__(self) -> ScoredImages:
        """Draw and score every image into a run, and read the run."""
        with tempfile.TemporaryDirectory() as temporary, Run.writing(Path(temporary) / "run") as run:
            self.execute(run)
            images = [np.asarray(decode_image(row.image)) for row in run.dataset("candidates", Candidate)]
            scores = [row.value for row in run.dataset("image_scores", Score)]
        return _outcome(images, scores, len(self.recipe.generate.guidance))

    def execute(self, run: Run) -> None:
        """Bring the run to its scores."""
        tasks = [self._with_models(task) for task in tasks_of(run, self.recipe) if task.name in _STAGES]
        run_tasks(run, tasks, self.recipe.executor, Progress())

    def _with_models(self, task: Task) -> Task:
        stage = self.stages.get(task.name)
        return replace(task, build=lambda: stage) if stage else task


def _stages(recipe: Recipe, settings: EngineSettings) -> dict[str, Stage[Any, Any]]:
    return {
        "candidates": GenerateStage(recipe.generate, settings),
        "image_scores": ScoreStage(recipe.score, settings),
    }


def _engines_of(stage: Stage[Any, Any], backend: str, settings: EngineSettings, folder: Path) -> list[Artifact]:
    device = resolve_device(settings)
    precision = str(resolve_dtype(settings, device)).removeprefix("torch.")
    build = partial(build_engine, backend=backend, precision=precision, device=device, root=folder)
    return [build(runner.network)[1] for runner in stage.runners if not runner.network.eager_only]


def _outcome(images: Sequence[np.ndarray], scores: Sequence[float], scales: int) -> ScoredImages:
    stacked = np.stack(images)
    return ScoredImages(stacked.reshape(-1, scales, *stacked.shape[1:]), np.array(scores).reshape(-1, scales))
