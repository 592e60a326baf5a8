"""Which folders of a run the viewer reads, as what, and by which columns their rows find the prompt they belong to.

By the folders' names alone: the stages' own declarations would do, but they bring a second of imports with them, and
the first picture is due before that.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..records import (
    Annotation,
    Candidate,
    ImagePreference,
    Instruction,
    Judgement,
    Pair,
    Prompt,
    Response,
    Score,
    Selection,
)


@dataclass(frozen=True)
class TableKind:
    """One kind of folder. `owners`: columns that name the row's owner, with the map to look each up in."""

    name: str
    record: type
    owners: tuple[tuple[str, str], ...]
    defines: str = ""
    """The map that its own ids go into."""
    columns: tuple[str, ...] = ()
    """What else the index keeps."""
    text: str = ""
    """The column that a search looks at."""

    def owns(self, folder: str) -> bool:
        """Return whether a folder holds rows of this kind."""
        return folder == self.name or folder.startswith(f"{self.name}-")

    @property
    def indexed(self) -> list[str]:
        """The columns that the index reads."""
        own = ["id"] if self.defines else []
        return list(dict.fromkeys([*own, *(column for column, _ in self.owners), *self.columns]))


# The maps: prompts, images, instructions, responses; in the order in which rows can find their owners.
KINDS = (
    TableKind("prompts", Prompt, (), "prompts", text="text"),
    TableKind("candidates", Candidate, (("prompt_id", "prompts"),), "images", ("id", "guidance")),
    TableKind("picks", Selection, (("prompt_id", "prompts"),), columns=("image_id",)),
    TableKind("selections", Selection, (("prompt_id", "prompts"),), columns=("image_id",)),
    TableKind("image_scores", Score, (("subject_id", "images"),)),
    TableKind("annotations", Annotation, (("prompt_id", "prompts"),)),
    TableKind("image_preferences", ImagePreference, (("prompt_id", "prompts"),)),
    TableKind("instructions", Instruction, (("image_id", "images"),), "instructions", text="text"),
    TableKind(
        "responses", Response, (("instruction_id", "instructions"), ("image_id", "images")), "responses", text="text"
    ),
    TableKind("judgements", Judgement, (("subject_id", "responses"),)),
    TableKind("response_scores", Score, (("subject_id", "responses"),)),
    TableKind("pairs", Pair, (("image_id", "images"),), columns=("id", "chosen_id", "rejected_id", "margin")),
)


def kind_of(folder: str) -> TableKind | None:
    """Return what a folder holds by its name; None for one that the viewer does not read."""
    found = [kind for kind in KINDS if kind.owns(folder)]
    return max(found, key=lambda kind: len(kind.name), default=None)
