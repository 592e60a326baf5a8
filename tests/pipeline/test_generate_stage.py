"""Drawing with levers and pruning: what becomes a row, what a reject, and which settings they are made with."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from prefmill.engine.scorers.choice import ScorerChoice
from prefmill.engine.sd3 import pruning as pruning_module
from prefmill.engine.sd3.decode import Generated
from prefmill.engine.sd3.levers import Levers
from prefmill.engine.sd3.pruning import Pruned
from prefmill.engine.settings import EngineSettings
from prefmill.pipeline.generate_settings import GenerateConfig, PruneConfig
from prefmill.pipeline.records import Candidate, Prompt, Reject
from prefmill.pipeline.stages.generate import STAGE, GenerateStage
from prefmill.recipes.settings import override
from prefmill.recipes.tiny import tiny

CPU = EngineSettings(device="cpu")
PROMPT = Prompt("p1", 1, "a kite", "file:1")


@pytest.fixture(scope="module")
def stage(cache):
    config = GenerateConfig(model="random:text-to-image", steps=2, width=32, height=32, guidance=(3.0, 5.0))
    return GenerateStage(config, CPU)


def test_pruned_candidates_are_rejects_with_their_early_score(stage, monkeypatch):
    plain: list[Any] = stage([PROMPT])
    images = torch.randint(0, 255, (1, 32, 32, 3), dtype=torch.uint8)
    monkeypatch.setattr(
        pruning_module, "draw_pruned", lambda *_, **__: Pruned(Generated(images, [None]), [1], [0.25, 1.0])
    )
    monkeypatch.setattr(stage, "pruning", SimpleNamespace(after=1, keep=1))
    computed = stage.compute([PROMPT])
    kept, dropped = stage.finish(computed)
    assert kept.id == plain[1].id, "a survivor is the candidate that it would have been"
    assert (kept.guidance, kept.prompt_id) == (5.0, "p1")
    assert isinstance(dropped, Reject)
    assert (dropped.subject_id, dropped.reason) == (plain[0].id, "pruned")
    assert dropped.detail == "scored 0.2500 after step 1 of 2: prompt file:1, guidance 3.0, seed 1001"
    assert [identity for identity, _ in stage.hand_on(computed)] == [kept.id]


def test_levers_are_part_of_an_images_identity_and_change_it(stage):
    plain: list[Any] = stage([PROMPT])
    config = stage.config.model_copy(update={"levers": Levers(guidance_cache=2)})
    cached: list[Any] = GenerateStage(config, CPU)([PROMPT])
    for before, after in zip(plain, cached, strict=True):
        assert isinstance(after, Candidate)
        assert after.id != before.id
        assert after.image != before.image


def test_a_batch_that_does_not_fit_is_drawn_prompt_by_prompt_and_noted(stage, monkeypatch):
    real, sizes = stage.engine.generate, []

    def small(prompts, *rest, **size):
        sizes.append(len(prompts))
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(prompts, *rest, **size)

    monkeypatch.setattr(stage.engine, "generate", small)
    rows: list[Any] = stage([PROMPT, Prompt("p2", 2, "a boat", "file:2")])
    assert sizes == [4, 2, 2]
    assert [row.prompt_id for row in rows] == ["p1", "p1", "p2", "p2"]
    assert stage.outcome[0].endswith("drawn 1 prompts at a time, whose last bits can differ")


def test_the_scorer_that_prunes_is_that_of_score_unless_another_is_named():
    recipe = override(tiny(), ["generate.prune.after=2", "score.scorer=clip", "score.model=mine"])
    settings = recipe.settings_of(STAGE)
    assert (settings.prune.scorer, settings.prune.model) == ("clip", "mine")
    assert settings.checkpoints == ("random:text-to-image", "mine")
    assert settings.candidates == 1
    own = override(recipe, ["generate.prune.scorer=blip"]).settings_of(STAGE).prune
    assert (own.scorer, own.model) == ("blip", ScorerChoice(scorer="blip").model)


def test_several_scorers_prune_where_score_names_several_or_prune_itself_does():
    recipe = override(
        tiny(), ["generate.prune.after=2", "score.mixture={imagereward: 1, clip: 30}", "score.models.clip=mine"]
    )
    settings = recipe.settings_of(STAGE)
    assert settings.checkpoints == ("random:text-to-image", "random:image-reward", "mine")
    assert settings.prune.choice(ScorerChoice()).mixture == {"imagereward": 1, "clip": 30}
    assert settings.scored_by(ScorerChoice(scorer="blip")) == settings
    single = override(recipe, ["generate.prune.scorer=blip", "generate.prune.model=theirs"]).settings_of(STAGE)
    assert single.checkpoints == ("random:text-to-image", "theirs")
    own = override(recipe, ["generate.prune.mixture={blip: 1, clip: 2}"]).settings_of(STAGE)
    assert own.checkpoints[1:] == (ScorerChoice(scorer="blip").model, ScorerChoice(scorer="clip").model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixture": {"clop": 1}}, "no image scorer 'clop'"),
        ({"mixture": {"clip": 0.0}}, "all weights are 0"),
        ({"mixture": {"clip": True}}, "valid number"),
        ({"mixture": {"clip": 1}, "models": {"blip": "x"}}, "models names 'blip', which is not in the mixture"),
        ({"mixture": {"clip": 1, "aesthetic": 1}}, "'aesthetic' has no published folder: name one as models.aesthetic"),
    ],
)
def test_mixtures_of_scorers_that_do_not_fit(settings, message):
    for kind in (ScorerChoice, PruneConfig):
        with pytest.raises(ValueError, match=message):
            kind.model_validate({"after": 1, **settings} if kind is PruneConfig else settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 4, "prune": {"after": 4}}, "before the last of 4 steps"),
        ({"prune": {"after": 4, "keep": 4}}, "less than the 4 candidates"),
        ({"batch_size": 0}, "at least 1, or auto"),
        ({"levers": {"guidance_cache": 0}}, "greater than or equal to 1"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        GenerateConfig.model_validate(settings)
