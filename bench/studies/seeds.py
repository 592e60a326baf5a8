"""The runs that studies share: one of the micro recipe for each seed, with prompts of its own, in TO/seed-N.

Runs of another kind stand beside them, in TO/seed-N-KIND. All are made when they are first asked for, and a stopped
study continues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...base.files import copy_folder
from ...base.progress import Progress
from ...micro.measure.held_out import held_out_scenes
from ...micro.world.render import render_all
from ...pipeline.records import Pair
from ...pipeline.store import Run
from ...pipeline.synthesis import synthesize
from ...recipes.micro import micro
from ...recipes.micro_reward import micro_reward
from ...recipes.recipe import BaseRecipe, Recipe
from ...recipes.settings import override
from ...train.progress import train_with_progress
from ...train.reward.training import train_reward_with_progress
from ..hallucination import evaluate_policy
from ..micro_recipe import micro_recipe, write_prompts
from ..selection import JudgedCandidates, judged_candidates
from .preference_training import Trained

EVALUATED = 400
ANNOTATED = "-annotated"
"""The kind of the plain runs of VisionPrefer's loop."""


@dataclass(frozen=True)
class Seeds:
    """The runs of some seeds in `folder`, with so many prompts each."""

    folder: Path
    seeds: Sequence[int]
    prompts: int
    progress: Progress

    @property
    def recipe(self) -> Recipe:
        """What the plain runs are made with, except for their prompts."""
        return micro()

    def runs(self, kind: str = "", changes: Callable[[Recipe], Recipe] = lambda recipe: recipe) -> list[Run]:
        """One complete run per seed; `changes` makes another kind of run, beside the plain one."""
        return [self._run(seed, kind, changes) for seed in self.seeds]

    def judged(self) -> list[JudgedCandidates]:
        """The candidates of the plain runs, judged by the oracle."""
        return [judged_candidates(run) for run in self.runs()]

    def copied(self, kind: str, stages: Sequence[str], source: str = "") -> None:
        """Begin runs of another kind with some stages of those of the kind `source`."""
        for seed in self.seeds:
            for stage in stages:
                target = self._folder(seed, kind) / stage
                if not target.exists():
                    files = (self._folder(seed, source) / stage).iterdir()
                    copy_folder([file for file in files if file.is_file()], target)

    def trained(self, label: str, seed: int, run: Run | None) -> Trained:
        """Train on a run's pairs (None: do not train) and ask the policy about the held-out scenes."""
        config = override(self.recipe, [f"train.seed={seed}"])
        assert config.train is not None
        adapter, pairs = None, 0
        if run is not None:
            output = run.folder / "training"
            train_with_progress(run.folder, output, config.train, self.progress, f"training on {label}")
            adapter, pairs = output / "adapter", len(run.dataset("pairs", Pair))
        _, scenes = held_out_scenes("test", self.prompts, EVALUATED, seed)
        answers = evaluate_policy(config.train.model, adapter, render_all(scenes, seed), scenes, config.engine)
        return Trained(label, seed, pairs, answers)

    def annotated(self, seed: int, recipe: BaseRecipe, kind: str = ANNOTATED) -> Run:
        """A run of VisionPrefer's loop on prompts of the seed's own."""
        folder = self._folder(seed, kind)
        asked, _ = held_out_scenes("test", self.prompts, 0, seed)
        config = override(recipe, [f"prompts.path={write_prompts(folder, asked, seed)}"])
        self.progress.line(f"{folder}:")
        with Run.writing(folder) as run:
            synthesize(run, config, self.progress)
        return run

    def reward(self, run: Run, name: str, aspects: Sequence[str], seed: int) -> Path:
        """The output of an image reward trained on a run's preferences by some aspects."""
        output = run.folder / f"reward-{name.replace(' ', '-')}"
        config = override(
            micro_reward(), [f"aspects=[{', '.join(aspects)}]", f"seed={seed}", f"cache={run.folder / 'features'}"]
        )
        train_reward_with_progress(run.folder, output, config, self.progress, f"reward on {name}")
        return output

    def _run(self, seed: int, kind: str, changes: Callable[[Recipe], Recipe]) -> Run:
        folder = self._folder(seed, kind)
        asked, _ = held_out_scenes("test", self.prompts, 0, seed)
        config = micro_recipe(folder, asked, seed)
        self.progress.line(f"{folder}:")
        with Run.writing(folder) as run:
            synthesize(run, changes(config), self.progress)
        return run

    def _folder(self, seed: int, kind: str) -> Path:
        return self.folder / f"seed-{seed}{kind}"
