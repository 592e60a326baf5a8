"""How alike are the answers to one instruction, and how alike are the prompts? (Fig. 6 of arXiv 2412.17417)

Preferences need answers that differ, and a data set needs prompts that do. Likeness is the measure by which the pair
policy tells near duplicates: shared three-word sequences (Jaccard).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ...pipeline.pairs.words import similarity
from ...pipeline.records import Instruction, Prompt, Response
from ...pipeline.sources import responders_of, responses_folder
from ...pipeline.store import Run
from .study import Study, bootstrap

PROMPT_PAIRS = 2000
BINS = 20


def similarity_study(runs: Sequence[Run]) -> Study:
    """Distributions of the likeness of answers of different responders, and of prompts."""
    described: list[float] = []
    asked: list[float] = []
    prompts: list[float] = []
    for number, run in enumerate(runs):
        yes_no = {row.id for row in run.dataset("instructions", Instruction) if row.text.startswith("is there")}
        for instruction, texts in _answers(run).items():
            likeness = [similarity(left, right) for left, right in combinations(texts, 2)]
            if likeness:
                (asked if instruction in yes_no else described).append(float(np.mean(likeness)))
        texts = [prompt.text for prompt in run.dataset("prompts", Prompt)]
        random = np.random.default_rng(number)
        for _ in range(PROMPT_PAIRS):
            left, right = random.choice(len(texts), size=2, replace=False)
            prompts.append(similarity(texts[left], texts[right]))
    groups = {"descriptions of one image": described, "yes/no answers": asked, "prompts": prompts}
    edges = np.linspace(0, 1, BINS + 1)
    rows: list[dict[str, Any]] = []
    for name, values in groups.items():
        interval, counts = bootstrap(values), np.histogram(values, edges)[0]
        for start, count in zip(edges[:-1], counts, strict=True):
            rows.append(
                {
                    "of": name,
                    "from": round(float(start), 3),
                    "share": round(count / len(values), 4),
                    **interval.columns("mean"),
                    "n": len(values),
                }
            )

    def draw(axes: Any) -> None:
        for name, values in groups.items():
            axes.hist(values, edges, weights=np.full(len(values), 1 / len(values)), alpha=0.55, label=name)
        axes.set_xlabel("likeness (shared three-word sequences)")
        axes.set_ylabel("share")
        axes.legend(fontsize=8)

    return Study(
        "similarity",
        "How alike answers to one instruction are, and prompts",
        rows,
        f"Descriptions of one image by different responders share {bootstrap(described)} of their three-word "
        f"sequences, two prompts {bootstrap(prompts)}.",
        draw,
    )


def _answers(run: Run) -> dict[str, list[str]]:
    answers: dict[str, list[str]] = defaultdict(list)
    for name in responders_of(run):
        for response in run.dataset(responses_folder(name), Response):
            answers[response.instruction_id].append(response.text)
    return answers
