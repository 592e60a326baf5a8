"""Where a row of an export comes from: the prompt, the models, the scores, and on which side of the split it is.

Only narrow columns are held in memory: ids, numbers and names, no image and no answer.
"""

from __future__ import annotations

from typing import Any

from ..records import Candidate, Pair, Prompt, Response, Score, Selection, is_held_out
from ..sources import responders_of, responses_folder
from ..store import Run

TRAIN, TEST = "train", "test"
IMAGE_COLUMNS: dict[str, str] = {
    **{"prompt_id": "string", "image_prompt": "string", "topic": "string", "image_id": "string"},
    **{"image_model": "string", "guidance": "float64", "seed": "int64", "steps": "int64"},
    **{"image_score": "float64", "image_scorer": "string"},
}
"""What every export says of an image, with the types of `datasets`. `image_prompt` is the text it was drawn from."""

PAIR_COLUMNS: dict[str, str] = {
    **{"pair_id": "string", "split": "string", "margin": "float64", "chosen_score": "float64"},
    **{"rejected_score": "float64", "scorer": "string", "chosen_model": "string", "rejected_model": "string"},
    **{"chosen_responder": "string", "rejected_responder": "string", "chosen_id": "string", "rejected_id": "string"},
    **IMAGE_COLUMNS,
}
"""What every export of pairs says of a pair beside its texts; null is what the run does not know."""


class Lineage:
    """A run's narrow columns by id. `held_out`: the share of the prompts whose rows are in the split `test`."""

    def __init__(self, run: Run, held_out: float) -> None:
        self.run, self.held_out = run, held_out
        prompts = run.dataset("prompts", Prompt)
        told = zip(prompts.column("text"), prompts.column("topic"), strict=True)
        self.prompts: dict[str | None, tuple[str, str | None]] = dict(zip(prompts.column("id"), told, strict=True))
        self.answered: dict[str | None, tuple[str, str]] = {}  # the recipe's name of the responder, and its model
        for name in responders_of(run):
            answers = run.dataset(responses_folder(name), Response)
            self.answered |= {
                key: (name, model) for key, model in zip(answers.column("id"), answers.column("model"), strict=True)
            }
        self.image_scores = self._scores("image_scores")
        self.answer_scores = self._scores("response_scores")

    def _scores(self, stage: str) -> dict[str | None, tuple[float, str]]:
        scores = self.run.dataset(stage, Score)
        told = zip(scores.column("value"), scores.column("scorer"), strict=True)
        return dict(zip(scores.column("subject_id"), told, strict=True))

    def split(self, prompt_id: str | None, image_id: str) -> str:
        """Return the side of a prompt's rows: the one that a training with that `eval_share` puts them on."""
        return TEST if is_held_out(prompt_id or image_id, self.held_out) else TRAIN

    def selected(self) -> set[str]:
        """Return the ids of the images that went on, imported or made."""
        return {
            image for name in ("picks", "selections") for image in self.run.dataset(name, Selection).column("image_id")
        }

    def of_image(self, image: Candidate) -> dict[str, Any]:
        """Return the values of `IMAGE_COLUMNS`."""
        text, topic = self.prompts.get(image.prompt_id, (None, None))
        score, scorer = self.image_scores.get(image.id, (None, None))
        return {
            "prompt_id": image.prompt_id,
            "image_prompt": text,
            "topic": topic,
            "image_id": image.id,
            "image_model": image.model,
            "guidance": image.guidance,
            "seed": image.seed,
            "steps": image.steps,
            "image_score": score,
            "image_scorer": scorer,
        }

    def of_pair(self, pair: Pair, image: Candidate) -> dict[str, Any]:
        """Return the values of `PAIR_COLUMNS`. A margin that the pair lacks is that of its answers' scores."""
        chosen, scorer = self.answer_scores.get(pair.chosen_id, (None, None))
        rejected, _ = self.answer_scores.get(pair.rejected_id, (None, None))
        better, worse = (self.answered.get(key, (None, None)) for key in (pair.chosen_id, pair.rejected_id))
        margin = pair.margin
        if margin is None and chosen is not None and rejected is not None:
            margin = chosen - rejected
        return {
            "pair_id": pair.id,
            "split": self.split(image.prompt_id, image.id),
            "margin": margin,
            "chosen_score": chosen,
            "rejected_score": rejected,
            "scorer": scorer,
            "chosen_model": better[1],
            "rejected_model": worse[1],
            "chosen_responder": better[0],
            "rejected_responder": worse[0],
            "chosen_id": pair.chosen_id,
            "rejected_id": pair.rejected_id,
            **self.of_image(image),
        }
