"""Every image and every answer with its score, also those that went no further: two tables that `datasets` loads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...base.errors import PrefmillError
from ..candidate_folders import candidates_in
from ..records import Candidate, Instruction, Pair, Response
from ..sources import responders_of, responses_folder
from ..store import Run
from .lineage import IMAGE_COLUMNS, Lineage
from .parquet_shards import ParquetShards, features
from .writer import ExportFormat, Target, Writer

_IMAGE = {"width": "int64", "height": "int64", "selected": "bool", "split": "string", **IMAGE_COLUMNS}
_ANSWER = {
    **{"answer_id": "string", "image_id": "string", "prompt_id": "string", "image_prompt": "string"},
    **{"topic": "string", "responder": "string", "model": "string", "instruction": "string", "text": "string"},
    **{"score": "float64", "scorer": "string", "fate": "string", "split": "string"},
}


@dataclass(frozen=True)
class ScoredRow:
    """A row of the table `images`, which has an image, or of the table `answers`."""

    values: dict[str, Any]
    image: Candidate | None = None


def score_rows(run: Run, lineage: Lineage) -> Iterator[ScoredRow]:
    """Yield the images, then the answers. Raises PrefmillError for a run without an image."""
    datasets = candidates_in(run)
    if not any(len(dataset) for dataset in datasets):
        raise PrefmillError(
            f"{run.folder} holds no images", "make some with `prefmill run`, or import some with `prefmill import`"
        )
    selected, owners = lineage.selected(), dict[str, str | None]()
    for dataset in datasets:
        for image in dataset:
            owners[image.id] = image.prompt_id
            values = {"width": image.width, "height": image.height, "selected": image.id in selected}
            split = lineage.split(image.prompt_id, image.id)
            yield ScoredRow(values | {"split": split} | lineage.of_image(image), image)
    yield from _answers(run, lineage, owners)


def _answers(run: Run, lineage: Lineage, owners: dict[str, str | None]) -> Iterator[ScoredRow]:
    instructions = run.dataset("instructions", Instruction)
    asked = dict(zip(instructions.column("id"), instructions.column("text"), strict=True))
    pairs = run.dataset("pairs", Pair)
    fates: dict[str, str] = {reject.subject_id: reject.reason for reject in pairs.rejects()}
    fates |= dict.fromkeys(pairs.column("rejected_id"), "rejected") | dict.fromkeys(pairs.column("chosen_id"), "chosen")
    for name in responders_of(run):
        for answer in run.dataset(responses_folder(name), Response):
            prompt = owners.get(answer.image_id)
            text, topic = lineage.prompts.get(prompt, (None, None))
            score, scorer = lineage.answer_scores.get(answer.id, (None, None))
            yield ScoredRow(
                {
                    "answer_id": answer.id,
                    "image_id": answer.image_id,
                    "prompt_id": prompt,
                    "image_prompt": text,
                    "topic": topic,
                    "responder": name,
                    "model": answer.model,
                    "instruction": asked.get(answer.instruction_id),
                    "text": answer.text,
                    "score": score,
                    "scorer": scorer,
                    "fate": fates.get(answer.id),
                    "split": lineage.split(prompt, answer.image_id),
                }
            )


class ScoresWriter(Writer[ScoredRow]):
    """`images/` and `answers/`, each a folder of Parquet shards."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        from datasets import Image

        folders = [target.path / name for name in ("images", "answers")]
        for folder in folders:
            folder.mkdir()
        schema = features({"image": Image(), **_IMAGE}).arrow_schema
        self.pictures = ParquetShards(target, schema, ("image.bytes", "image.path"), folders[0])
        self.answers = ParquetShards(target, features(_ANSWER).arrow_schema, (), folders[1])

    def add(self, row: ScoredRow) -> dict[str, Any]:
        """Write a row into the table it belongs to."""
        split = row.values["split"]
        self.rows[split] += 1
        if row.image is None:
            self.answers.add(split, row.values, 0)
            return {"split": split}
        image = {"image": {"bytes": row.image.image, "path": self.images.name(row.image)}}
        self.pictures.add(split, image | row.values, len(row.image.image))
        return row.values

    def close(self) -> None:
        """End the files."""
        self.pictures.close()
        self.answers.close()


FORMAT = ExportFormat(
    "scores",
    "every image and every answer with its score, as two tables of `datasets`",
    "images and answers",
    score_rows,
    ScoresWriter,
    'from datasets import load_dataset\n\nimages = load_dataset("{name}", "images")\n'
    'answers = load_dataset("{name}", "answers")',
    {"images": "images/{split}-*.parquet", "answers": "answers/{split}-*.parquet"},
)
