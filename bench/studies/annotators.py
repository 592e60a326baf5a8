"""What careless annotating costs: two annotators and both together rate the same images, and a reward learns from each.

The oracle says of two images of a prompt which is better, by the mean of its ratings of the four aspects; pairs that it
rates the same are left out. The annotators' preference is right, wrong, or none: that counts one half. The unit of
intervals is a prompt, annotated or held out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from ...base.errors import PrefmillError
from ...engine.images import decode_image
from ...micro.world.aspects import overall, rate_images
from ...micro.world.language import parse_caption
from ...pipeline.records import Candidate, ImagePreference, Prompt
from ...pipeline.store import Run
from .study import Study, bootstrap, grouped_bars

Measures = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True)
class AnnotatorPanel:
    """Annotators of one seed: how often they agree with the oracle [N prompts], what a reward trained on their
    preferences makes of held-out prompts [M] (NaN where the oracle prefers nothing), and their run's measures."""

    label: str
    annotators: tuple[str, ...]
    agreement: np.ndarray
    learnt: np.ndarray
    measures: Measures


def oracle_agreement(run: Run, images: Sequence[str]) -> np.ndarray:
    """For each prompt of a run the share of its pairs that are preferred as the oracle does; `images` are stages.

    Prompts without images that the oracle tells apart are left out. Raises PrefmillError for prompts that are no micro
    scenes.
    """
    scenes = {prompt.id: parse_caption(prompt.text) for prompt in run.dataset("prompts", Prompt)}
    ratings: dict[str, dict[str, float]] = defaultdict(dict)
    for stage in images:
        rows = run.dataset(stage, Candidate)
        asked = [scene for row in rows if (scene := scenes.get(str(row.prompt_id)))]
        if len(asked) < len(rows):
            raise PrefmillError(f"{run.folder} holds prompts that describe no micro scene", "give a micro run")
        rated = rate_images(asked, np.stack([np.asarray(decode_image(row.image)) for row in rows]))
        for row, found in zip(rows, rated, strict=True):
            ratings[str(row.prompt_id)][row.id] = overall(found)
    preferences = (row for row in run.dataset("image_preferences", ImagePreference) if row.aspect == "overall")
    preferred = {(row.chosen_id, row.rejected_id) for row in preferences}
    return np.array([share for own in ratings.values() if (share := _agreement(own, preferred)) is not None])


def _agreement(rated: Mapping[str, float], preferred: set[tuple[str, str]]) -> float | None:
    pairs = [pair for pair in permutations(rated, 2) if rated[pair[0]] > rated[pair[1]]]
    right = sum(1.0 if pair in preferred else 0.0 if pair[::-1] in preferred else 0.5 for pair in pairs)
    return right / len(pairs) if pairs else None


def annotators_study(panels: Sequence[AnnotatorPanel]) -> Study:
    """Panels of one label belong together, one per seed; the first label is what the others are held against."""
    labels = list(dict.fromkeys(panel.label for panel in panels))
    by_label = {label: [panel for panel in panels if panel.label == label] for label in labels}
    agreed = {label: np.concatenate([one.agreement for one in own]) for label, own in by_label.items()}
    learnt = {label: np.concatenate([one.learnt for one in own]) for label, own in by_label.items()}
    rows: list[dict[str, Any]] = []
    for label, own in by_label.items():
        told = {
            "flipped": _mean(own, "order swap", "{}", "flipped"),
            "same_rating": _mean(own, "self-consistency", "{}", "same"),
            "first_wins": _mean(own, "place", "1 with {}", "win_share"),
        }
        for measure, values in (("annotators", agreed[label]), ("reward", learnt[label])):
            known = _known(values)
            rows.append(
                {"preferred by": label, "of": measure, "prompts": len(known)} | bootstrap(known).columns() | told
            )
    first, *others = labels

    def draw(axes: Any) -> None:
        grouped_bars(axes, rows, "of")
        axes.set_xticks(range(len(labels)), labels)
        axes.axhline(0.5, color="gray", linewidth=0.8, linestyle="--")
        axes.set_ylim(0, 1)
        axes.set_ylabel("share of pairs in the oracle's order")
        axes.legend(fontsize=8)

    def compared(label: str) -> str:
        behind = bootstrap(_known(learnt[label] - learnt[first]))
        return f"{label} agrees in {bootstrap(agreed[label])}, and a reward trained on that is {behind} from the first"

    return Study(
        "annotators",
        f"Preferences of annotators, and rewards trained on them, {len(by_label[first])} seeds; the oracle judges",
        rows,
        f"{first} agrees with the oracle in {bootstrap(agreed[first])} of the pairs, and a reward trained on its "
        f"preferences orders {bootstrap(_known(learnt[first]))} of held-out pairs so; "
        f"{'; '.join(map(compared, others))}.",
        draw,
    )


def _known(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]


def _mean(panels: Sequence[AnnotatorPanel], kind: str, key: str, number: str) -> float:
    found = [panel.measures[kind][key.format(name)][number] for panel in panels for name in panel.annotators]
    return round(float(np.mean(found)), 4)
