"""What stages read: the rows of the stages before, joined by id into what each one needs.

A source's order is fixed (see `Source`), so that a batch is a range of numbers and stays the same after a crash.
Only ids and numbers are held in memory; images are read where a batch needs them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .pair_policy import JudgedAnswer
from .records import Candidate, Instruction, Prompt, Response, Score, Selection
from .store import Dataset, Run

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class ListSource(Generic[T]):
    """Inputs that are in memory already, each with the id its outputs depend on."""

    items: Sequence[T]
    identities: Sequence[str]

    def __len__(self) -> int:
        return len(self.items)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return the ids of a range."""
        return self.identities[start:stop]

    def read(self, start: int, stop: int) -> Sequence[T]:
        """Return a range."""
        return self.items[start:stop]


class DatasetSource(Generic[T]):
    """The rows of one dataset, each turned into an input by `join`."""

    def __init__(self, dataset: Dataset[Any], join: Callable[[Any], T], key: str = "id") -> None:
        self.dataset, self.join = dataset, join
        self.identities: list[str] = dataset.column(key)

    def __len__(self) -> int:
        return len(self.identities)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Return the ids of a range."""
        return self.identities[start:stop]

    def read(self, start: int, stop: int) -> Sequence[T]:
        """Return a range, read and joined."""
        return [self.join(row) for row in self.dataset.read(start, stop)]


@dataclass(frozen=True)
class PromptedImage:
    """A candidate with its prompt's text (None: imported without one).

    `image` is the stored file's bytes, or the decoded image itself: a uint8 tensor [H, W, 3] on any device.
    """

    candidate_id: str
    image: bytes | torch.Tensor
    prompt: str | None


@dataclass(frozen=True)
class Contest:
    """A prompt's candidates and their scores, in the candidates' order."""

    prompt_id: str
    scores: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ChosenImage:
    """A selection with its prompt."""

    selection: Selection
    prompt: Prompt


@dataclass(frozen=True)
class Question:
    """An instruction with the image it is about."""

    instruction: Instruction
    image: bytes


@dataclass(frozen=True)
class Panel:
    """An instruction with every responder's answer to it, judged or (score None) not yet judged."""

    instruction: Instruction
    answers: tuple[JudgedAnswer, ...]
    prompt: str | None = None  # the image's text-to-image prompt, where it has one


def prompted_images(run: Run) -> DatasetSource[PromptedImage]:
    """Return the candidates with their prompts' texts."""
    texts = _prompt_texts(run)
    candidates = run.dataset("candidates", Candidate)
    return DatasetSource(candidates, lambda row: PromptedImage(row.id, row.image, texts.get(row.prompt_id or "")))


def _prompt_texts(run: Run) -> dict[str, str]:
    prompts = run.dataset("prompts", Prompt)
    return dict(zip(prompts.column("id"), prompts.column("text"), strict=True))


def contests(run: Run) -> ListSource[Contest]:
    """Return, per prompt, the scores of its candidates."""
    candidates, scores = run.dataset("candidates", Candidate), run.dataset("image_scores", Score)
    owner = dict(zip(candidates.column("id"), candidates.column("prompt_id"), strict=True))
    by_prompt: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for subject, value in zip(scores.column("subject_id"), scores.column("value"), strict=True):
        if owner[subject] is not None:
            by_prompt[owner[subject]].append((subject, value))
    items = [Contest(prompt, tuple(by_prompt[prompt])) for prompt in run.dataset("prompts", Prompt).column("id")]
    return ListSource(items, [" ".join([item.prompt_id, *(image for image, _ in item.scores)]) for item in items])


def chosen_images(run: Run) -> DatasetSource[ChosenImage]:
    """Return the selections with their prompts."""
    prompts = {prompt.id: prompt for prompt in run.dataset("prompts", Prompt)}
    selections = run.dataset("selections", Selection)
    return DatasetSource(selections, lambda row: ChosenImage(row, prompts[row.prompt_id]), key="image_id")


def questions(run: Run) -> DatasetSource[Question]:
    """Return the instructions with their images."""
    candidates = run.dataset("candidates", Candidate)
    instructions = run.dataset("instructions", Instruction)
    return DatasetSource(instructions, lambda row: Question(row, next(candidates.take([row.image_id])).image))


def panels(run: Run, responders: Sequence[str], judged: bool) -> ListSource[Panel]:
    """Return, per instruction, the answers of all responders, in their order; with scores where `judged`."""
    scores: dict[str, float] = {}
    if judged:
        dataset = run.dataset("response_scores", Score)
        scores = dict(zip(dataset.column("subject_id"), dataset.column("value"), strict=True))
    answers: dict[str, list[JudgedAnswer]] = defaultdict(list)
    for name in responders:
        for response in run.dataset(responses_folder(name), Response):
            answers[response.instruction_id].append(JudgedAnswer(response, scores.get(response.id)))
    candidates, texts = run.dataset("candidates", Candidate), _prompt_texts(run)
    owners = dict(zip(candidates.column("id"), candidates.column("prompt_id"), strict=True))
    items = [
        Panel(row, tuple(answers[row.id]), texts.get(owners.get(row.image_id) or ""))
        for row in run.dataset("instructions", Instruction)
    ]
    identities = [" ".join([item.instruction.id, *(a.response.id for a in item.answers)]) for item in items]
    return ListSource(items, identities)


def responses_folder(responder: str) -> str:
    """Return the folder of one responder's answers."""
    return f"responses-{responder}"


def responders_of(run: Run) -> list[str]:
    """Return the responders whose answers a run holds, by name."""
    prefix = responses_folder("")
    return [name.removeprefix(prefix) for name in run.stages() if name.startswith(prefix)]
