"""The studies by name, and which runs and trainings each of them needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np

from ...engine.settings import Sampling
from ...micro.measure.held_out import held_out_scenes
from ...pipeline.annotating.settings import AnnotatorChoice
from ...pipeline.pair_policy import PairPolicy
from ...pipeline.records import Pair
from ...pipeline.stages.answer import ResponderConfig
from ...pipeline.store import Run
from ...recipes.recipe import Recipe
from ...recipes.settings import override
from ...recipes.visionprefer_micro import visionprefer_micro
from ...train.reward.manifest import REWARD
from ..derived_runs import indifferent_run, subset_run
from ..selection import judged_candidates
from .annotators import AnnotatorPanel, annotators_study, oracle_agreement
from .answer_similarity import similarity_study
from .aspects import ALL, TRAINED, RatedImages, aspects_study, pair_accuracy, rated_images, scores_by, shipped_scores
from .generation import draw_in_turns, generation_study
from .image_selection import agreement_study, guidance_study, same_seed_study, selection_study
from .preference_training import Trained, control_study, junk_study, pairs_study
from .seeds import ANNOTATED, Seeds
from .study import Study

SIZES = (0, 1 / 8, 1 / 4, 1 / 2, 1)
JUNK = ResponderConfig(
    name="fragments",
    model="micro:responder-b",
    sampling=Sampling(max_new_tokens=3, temperature=0.7),
    batch_size=64,
)
"""A responder that is cut off after three words: what the published data of this kind holds much of."""
LOOSE = PairPolicy(
    same_language=False,
    minimum_words=1,
    maximum_repetition=1.0,
    near_duplicate=1.0,
    refuse_artifacts=False,
    maximum_generic=1.0,
    length_ratio=None,
)
_IMAGE_STAGES = ("prompts", "candidates", "image_scores", "selections", "instructions")


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
            trained.append(shared.trained(f"{size:g} of the pairs", seed, _part(run, size, seed)))
    return pairs_study(trained)


def _part(run: Run, share: float, seed: int) -> Run | None:
    """A share of a run's pairs, with its training where another study has made one; None for no pairs."""
    count = round(share * len(run.dataset("pairs", Pair)))
    return subset_run(run, run.folder / f"subset-{count}", count, seed) if count else None


def _control(shared: Seeds) -> Study:
    trained: list[Trained] = []
    for seed, run in zip(shared.seeds, shared.runs(), strict=True):
        indifferent = indifferent_run(run, run.folder / "indifferent", seed)
        kinds = {"nothing": None, "preferences": _part(run, 1, seed), "half of them in both orders": indifferent}
        trained += [shared.trained(label, seed, part) for label, part in kinds.items()]
    return control_study(trained)


def _junk(shared: Seeds) -> Study:
    def with_junk(policy: PairPolicy, recipe: Recipe) -> Recipe:
        return recipe.model_copy(update={"responders": (*recipe.responders, JUNK), "pair": policy})

    clean = shared.runs()
    answered = (*_IMAGE_STAGES, *(f"responses-{responder.name}" for responder in shared.recipe.responders))
    shared.copied("-junk", answered)
    by_policy = shared.runs("-junk", partial(with_junk, shared.recipe.pair))
    shared.copied("-junk-loose", (*answered, f"responses-{JUNK.name}", "response_scores"), "-junk")
    loose = shared.runs("-junk-loose", partial(with_junk, LOOSE))
    kinds = {"without junk": clean, "by the policy": by_policy, "as they come": loose}
    return junk_study(
        [
            shared.trained(label, seed, run)
            for label, runs in kinds.items()
            for seed, run in zip(shared.seeds, runs, strict=True)
        ]
    )


def _generation(shared: Seeds) -> Study:
    asked = [scene for seed in shared.seeds for scene in held_out_scenes("test", shared.prompts, 0, seed)[0]]
    return generation_study(shared.recipe, asked, draw_in_turns(shared.recipe, asked, shared.progress))


def _aspects(shared: Seeds) -> Study:
    recipe = visionprefer_micro()
    rated, scores = [], []
    for seed in shared.seeds:
        run, images = shared.annotated(seed, recipe), _held_out(shared.prompts, seed)
        trained = {name: _learnt(shared, seed, run, images, name, aspects) for name, aspects in TRAINED.items()}
        rated.append(images)
        scores.append(trained | shipped_scores(images, recipe.engine))
    return aspects_study(rated, scores)


def _annotators(shared: Seeds) -> Study:
    recipe = visionprefer_micro()
    [careful] = recipe.annotators
    careless = careful.model_copy(update={"name": "annotator-b", "model": "micro:annotator-b"})
    images = tuple(f"candidates-{generator.name}" for generator in recipe.generators)
    panels: list[AnnotatorPanel] = []

    def add(label: str, kind: str, *annotators: AnnotatorChoice) -> None:
        for seed in shared.seeds:
            run = shared.annotated(seed, recipe.model_copy(update={"annotators": annotators}), kind)
            held_out = _held_out(shared.prompts, seed)
            scores = _learnt(shared, seed, run, held_out, ALL, TRAINED[ALL])
            learnt = pair_accuracy(scores, held_out.ratings["overall"])
            names = tuple(annotator.name for annotator in annotators)
            measures = run.manifest("image_preferences")["measures"]
            panels.append(AnnotatorPanel(label, names, oracle_agreement(run, images), learnt, measures))

    add(careful.name, ANNOTATED, careful)
    shared.copied("-careless", ("prompts", *images), ANNOTATED)
    add(careless.name, "-careless", careless)
    shared.copied("-both", ("prompts", *images, f"annotations-{careful.name}"), ANNOTATED)
    shared.copied("-both", (f"annotations-{careless.name}",), "-careless")
    add("both", "-both", careful, careless)
    return annotators_study(panels)


@lru_cache
def _held_out(prompts: int, seed: int) -> RatedImages:
    """Images of scenes that a seed's run does not ask for, drawn once for all studies."""
    _, scenes = held_out_scenes("test", prompts, prompts, seed)
    return rated_images(scenes, visionprefer_micro().generators, seed)


def _learnt(shared: Seeds, seed: int, run: Run, images: RatedImages, name: str, aspects: Sequence[str]) -> np.ndarray:
    """Scores by a reward that is trained on a run's preferences."""
    reward = shared.reward(run, name, aspects, seed) / REWARD
    return scores_by(images, "image-reward", str(reward), shared.recipe.engine)


STUDIES: dict[str, Callable[[Seeds], Study]] = {
    "guidance": lambda shared: guidance_study(shared.judged()),
    "agreement": lambda shared: agreement_study(shared.judged(), shared.recipe.engine),
    "selection": lambda shared: selection_study(shared.judged(), shared.recipe.engine),
    "same-seed": _same_seed,
    "similarity": lambda shared: similarity_study(shared.runs()),
    "generation": _generation,
    "pairs": _pairs,
    "control": _control,
    "junk": _junk,
    "aspects": _aspects,
    "annotators": _annotators,
}
