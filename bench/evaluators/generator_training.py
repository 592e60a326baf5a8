"""What a tuned generator was trained on, as its training's manifest says; and which judges are that reward itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ...base.errors import PrefmillError
from ...base.files import read_text
from ...engine.checkpoint import checkpoint_key
from ...engine.scorers.choice import ScorerChoice
from ...engine.sources import local_checkpoint


class _Config(BaseModel):
    model_config = ConfigDict(extra="ignore")

    method: str | None = None
    reward: dict[str, Any] | None = None
    flow_dpo: dict[str, Any] = {}

    @property
    def only_watches(self) -> bool:
        """Whether the reward is not what it learnt from: flow-dpo on a run's preferences only looks at it."""
        return self.method == "flow-dpo" and not self.flow_dpo.get("online")


class _TrainingManifest(BaseModel):
    """What is read of a generator training's manifest; the training writes more."""

    model_config = ConfigDict(extra="ignore")

    config: _Config = _Config()


@dataclass(frozen=True)
class TrainingReward:
    """How a generator was tuned: `scorers` are the checkpoints of its reward by name, empty where none is named."""

    method: str | None
    scorers: Mapping[str, str]


def training_of(manifest: Path | None) -> TrainingReward | None:
    """Return what a manifest says; None where there is no manifest. Raises PrefmillError for a damaged one."""
    if manifest is None:
        return None
    fix = f"put back the manifest of the training, or move the adapter out of {manifest.parent}"
    text = read_text(manifest, fix) or ""
    try:
        config = _TrainingManifest.model_validate(json.loads(text)).config
        reward = {} if config.only_watches else _choice(config.reward)
    except (ValidationError, ValueError, RecursionError) as error:
        raise PrefmillError(f"{manifest} is damaged ({next(iter(str(error).splitlines()), '')})", fix) from error
    return TrainingReward(config.method, reward)


def _choice(reward: dict[str, Any] | None) -> Mapping[str, str]:
    """The reward's checkpoints; a training's own settings beside the choice are not read."""
    if reward is None:
        return {}
    return ScorerChoice.model_validate({key: reward[key] for key in ScorerChoice.model_fields if key in reward}).sources


def shared_with_reward(
    judges: Sequence[ScorerChoice], keys: Mapping[str, str], trainings: Mapping[str, TrainingReward | None]
) -> dict[str, list[str]]:
    """Return, by judge, the tuned generators whose reward it is or is part of. `keys`: the judges' weights."""
    return {
        judge.scorer: [
            name
            for name, training in trainings.items()
            if training
            and judge.scorer in training.scorers
            and _is_same(judge.model, keys.get(judge.scorer, ""), training.scorers[judge.scorer])
        ]
        for judge in judges
    }


def _is_same(model: str, key: str, other: str) -> bool:
    """Whether two sources are one checkpoint: by name, or by content where the other is here."""
    if model == other:
        return True
    try:
        return checkpoint_key(local_checkpoint(other), key.partition("@")[0]) == key
    except PrefmillError:  # it is not here any more
        return False


def warnings_of(
    shared: Mapping[str, Sequence[str]], trainings: Mapping[str, TrainingReward | None], *, has_oracle: bool
) -> list[str]:
    """Return what a reader must know of the judges' independence."""
    told = []
    for name, training in trainings.items():
        if training is None:
            told.append(f"{name} has no training manifest beside it: nobody can say whether a judge was its reward")
        elif not has_oracle and shared and all(name in owners for owners in shared.values()):
            told.append(
                f"every judge of {name} is the reward that it was trained on, which it may have learnt to please: "
                "add another with --scorer"
            )
    return told
