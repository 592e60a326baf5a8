"""The engines that a recipe's stages ask for: which networks those are of, and what is missing.

A stage that is loaded eagerly says by its runners which networks its settings need, and an engine fits one by the
digest of its weights. So both are known only when the model is loaded, which is done for one stage at a time.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..base.errors import PrefmillError
from ..engine.settings import EIGHT_BIT, EngineSettings
from .plan import Problem
from .recipe import BaseRecipe

if TYPE_CHECKING:
    import torch

    from ..engine.network import Network
    from ..pipeline.stage import Stage


@dataclass(frozen=True)
class StageModel:
    """A stage's instance that loads a model: the folder of its rows, where its settings stand, and its engine's."""

    name: str
    setting: str
    checkpoints: tuple[str, ...]
    engine: EngineSettings
    settings: Any = field(repr=False)
    _build: Callable[[EngineSettings], Any] = field(repr=False)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        from ..engine.device import resolve_device  # torch, here and below: a plan without engines does without

        return resolve_device(self.engine)

    @property
    def precision(self) -> str:
        """What it computes in."""
        from ..engine.device import resolve_execution

        return resolve_execution(self.engine).precision

    @property
    def weights_dtype(self) -> str:
        """What its weights are loaded in."""
        from ..engine.device import resolve_weights_dtype

        return str(resolve_weights_dtype(self.engine, self.device)).removeprefix("torch.")

    @property
    def without(self) -> str:
        """What becomes of a network that has no engine: `missing`, or `eager` where the settings let it run so."""
        return "eager" if self.engine.missing == "eager" else "missing"

    def under(self, backend: str) -> StageModel:
        """The same under another backend."""
        return replace(self, engine=self.engine.model_copy(update={"backend": backend}))

    def precision_of(self, network: Network) -> str:
        """What a network computes in: one that has no eight-bit layers, in the floats around those of others."""
        from ..engine.device import resolve_dtype

        if self.engine.dtype in EIGHT_BIT and network.kept_precise is None:
            return str(resolve_dtype(self.engine, self.device)).removeprefix("torch.")
        return self.precision

    def load(self, **changes: Any) -> Stage[Any, Any]:
        """The stage, loaded eagerly, with weights as its backend takes them; `changes` to its engine's settings."""
        eager = {"backend": "eager", "dtype": self.weights_dtype}
        return self._build(self.engine.model_copy(update=changes or eager))

    def networks(self) -> list[Network]:
        """The networks that its settings need, loaded as `load` does."""
        return [runner.network for runner in self.load().runners]

    def check(self, targets: tuple[str, ...] = ()) -> None:
        """Raise PrefmillError where its backend could not build an engine here (see `compile.build.check_build`)."""
        from ..compile.build import check_build

        check_build(self.engine.backend, self.precision, targets, self.device)


def stage_models(recipe: BaseRecipe, names: Collection[str] | None = None) -> list[StageModel]:
    """The stages of a recipe that load a model, in order; of `names`, where they are given."""
    found = []
    for stage in recipe.STAGES:
        settings, engine = recipe.settings_of(stage), recipe.engine.of_stage(stage.setting)
        for number, (name, entry) in enumerate(stage.instances(settings).items()):
            checkpoints = tuple(stage.checkpoints(entry))
            if checkpoints and (names is None or name in names):
                place = f"{stage.setting}.{number}" if isinstance(settings, tuple) else stage.setting
                found.append(StageModel(name, place, checkpoints, engine, entry, partial(stage.build, entry)))
    return found


def engine_models(recipe: BaseRecipe, names: Collection[str] | None = None) -> list[StageModel]:
    """Those of them whose backend runs engines."""
    return [model for model in stage_models(recipe, names) if model.engine.needs_engines]


def engine_problems(models: Sequence[StageModel], words: str) -> Iterator[Problem]:
    """Yield, by stage, what keeps engines from running it; `words` name the recipe on a command line.

    A model is loaded only where engines of its backend are there, since only its weights say whether they fit.
    """
    for model in models:
        if model.engine.missing == "eager":  # said when it is loaded, and in the stage's manifest
            continue
        try:
            model.check()
            missing = missing_networks(model) if model.engine.missing == "error" else []
        except PrefmillError as error:
            yield Problem.of(model.setting, error)
            continue
        if missing:
            message = f"{model.name} has no {model.engine.backend} engines: {'; '.join(missing)}"
            fix = f"prefmill compile build {words}, or --set engine.missing=build (or =eager)"
            yield Problem(model.setting, message, fix)


def missing_networks(model: StageModel) -> list[str]:
    """The networks that no engine fits, each with the reason; writes and downloads nothing."""
    from ..engine.artifact import artifacts_in, digest_once, find_artifact, identity_of
    from ..engine.sources import is_here

    root, backend = model.engine.artifacts_folder, model.engine.backend
    if all(artifact.identity.backend != backend for _, artifact in artifacts_in(root)):
        return [f"none was built in {root}"]
    if absent := [source for source in model.checkpoints if not is_here(source)]:
        return [f"{', '.join(absent)} is not downloaded, and only its weights say which engines fit"]
    missing, digests = [], dict[int, str]()
    for network in model.networks():
        if network.eager_only:
            continue
        weights = digest_once(network.module, digests)
        try:
            find_artifact(
                root, identity_of(network, backend, model.precision_of(network), weights=weights), model.device
            )
        except LookupError as error:
            missing.append(f"{network.name} ({error})")
    gc.collect()  # modules refer to themselves in circles, and the next model needs the memory
    return missing
