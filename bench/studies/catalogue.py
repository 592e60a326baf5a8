"""The studies by name, and the runs of the micro recipe that they share.

Every seed is a run of the micro recipe with prompts of its own, in TO/seed-N; studies share the runs, and a stopped
study continues. Each study writes NAME.csv, NAME.png and NAME.txt.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...base.files import write_text
from ...base.progress import Progress
from ...engine.settings import Sampling
from ...micro.measure.held_out import held_out_scenes, prompt_lines
from ...micro.world.render import render_all
from ...pipeline.pair_policy import PairPolicy
from ...pipeline.records import Pair
from ...pipeline.stages.answer import ResponderConfig
from ...pipeline.store import Run
from ...pipeline.synthesis import synthesize
from ...recipes.catalogue import load_recipe
from ...recipes.recipe import Recipe
from ...recipes.settings import override
from ...train.progress import train_with_progress
from ..derived_runs import subset_run
from ..hallucination import evaluate_policy
from ..selection import JudgedCandidates, judged_candidates
from .answer_similarity import similarity_study
from .image_selection import agreement_study, guidance_study, same_seed_study, selection_study
from .preference_training import Trained, junk_study, pairs_study
from .study import Study

EVALUATED = 400
SIZES = (0, 1 / 8, 1 / 4, 1 / 2, 1)
JUNK = ResponderConfig(
    name="fragments",
    model="micro:responder-b",
    sampling=Sampling(max_new_tokens=3, temperature=0.7),
    batch_size=64,
)
"""A responder that is cut off after three words: what the published data of this kind holds much of."""
LOOSE = PairPolicy(same_language=False, minimum_words=1, maximum_repetition=1.0, near_duplicate=1.0)
_IMAGE_STAGES = ("prompts", "candidates", "image_scores", "selections", "instructions")


@dataclass(frozen=True)
class Seeds:
    """The runs that studies share, made when they are first asked for."""

    folder: Path
    seeds: Sequence[int]
    prompts: int
    progress: Progress

    def runs(self, kind: str = "", changes: Callable[[Recipe], Recipe] = lambda recipe: recipe) -> list[Run]:
        """One complete run per seed; `changes` makes another kind of run, beside the plain one."""
        return [self._run(seed, kind, changes) for seed in self.seeds]

    def judged(self) -> list[JudgedCandidates]:
        """The candidates of the plain runs, judged by the oracle."""
        return [judged_candidates(run) for run in self.runs()]

    def _run(self, seed: int, kind: str, changes: Callable[[Recipe], Recipe]) -> Run:
        folder = self.folder / f"seed-{seed}{kind}"
        asked, _ = held_out_scenes("test", self.prompts, 0, seed)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "prompts.jsonl", prompt_lines(asked, seed))
        config = override(load_recipe("micro"), [f"prompts.path={(folder / 'prompts.jsonl').resolve()}"])
        self.progress.line(f"{folder}:")
        with Run.writing(folder) as run:
            synthesize(run, changes(config), self.progress)
        return run

    def copied(self, kind: str, stages: Sequence[str], source: str = "") -> None:
        """Begin runs of another kind with some stages of those of the kind `source`."""
        for seed in self.seeds:
            for stage in stages:
                target = self.folder / f"seed-{seed}{kind}" / stage
                if not target.exists():
                    shutil.copytree(self.folder / f"seed-{seed}{source}" / stage, target)


def _same_seed(shared: Seeds) -> Study:
    def one_noise(recipe: Recipe) -> Recipe:
        return override(recipe, ["generate.seeds=same"])

    same = [judged_candidates(run) for run in shared.runs("-one-noise", one_noise)]
    return same_seed_study(shared.judged(), same)


def _pairs(shared: Seeds) -> Study:
    trained: list[Trained] = []
    runs = shared.runs()
    for size in SIZES:
        for seed, run in zip(shared.seeds, runs, strict=True):
            count = round(size * len(run.dataset("pairs", Pair)))
            part = subset_run(run, run.folder / f"subset-{count}", count, seed) if count else None
            trained.append(_trained(shared, f"{size:g} of the pairs", seed, part))
    return pairs_study(trained)


def _junk(shared: Seeds) -> Study:
    def with_junk(policy: PairPolicy, recipe: Recipe) -> Recipe:
        return recipe.model_copy(update={"responders": (*recipe.responders, JUNK), "pair": policy})

    clean = shared.runs()
    answered = (*_IMAGE_STAGES, *(f"responses-{responder.name}" for responder in load_recipe("micro").responders))
    shared.copied("-junk", answered)
    by_policy = shared.runs("-junk", partial(with_junk, load_recipe("micro").pair))
    shared.copied("-junk-loose", (*answered, f"responses-{JUNK.name}", "response_scores"), "-junk")
    loose = shared.runs("-junk-loose", partial(with_junk, LOOSE))
    kinds = {"without junk": clean, "by the policy": by_policy, "as they come": loose}
    return junk_study(
        [
            _trained(shared, label, seed, run)
            for label, runs in kinds.items()
            for seed, run in zip(shared.seeds, runs, strict=True)
        ]
    )


def _trained(shared: Seeds, label: str, seed: int, run: Run | None) -> Trained:
    """Train on a run's pairs (None: do not train) and ask the policy about the held-out scenes."""
    config = override(load_recipe("micro"), [f"train.seed={seed}"])
    assert config.train is not None
    adapter = None
    if run is not None:
        train_with_progress(run.folder, run.folder / "training", config.train, shared.progress, f"training on {label}")
        adapter = run.folder / "training" / "adapter"
    pairs = len(run.dataset("pairs", Pair)) if run else 0
    _, scenes = held_out_scenes("test", shared.prompts, EVALUATED, seed)
    answers = evaluate_policy(config.train.model, adapter, render_all(scenes, seed), scenes, config.engine)
    return Trained(label, seed, pairs, answers)


STUDIES: dict[str, Callable[[Seeds], Study]] = {
    "guidance": lambda shared: guidance_study(shared.judged()),
    "agreement": lambda shared: agreement_study(shared.judged(), load_recipe("micro").engine),
    "selection": lambda shared: selection_study(shared.judged(), load_recipe("micro").engine),
    "same-seed": _same_seed,
    "similarity": lambda shared: similarity_study(shared.runs()),
    "pairs": _pairs,
    "junk": _junk,
}
