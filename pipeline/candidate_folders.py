"""The images of a run that has one generator (`candidates`), or several (`candidates-NAME`), found by their ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .records import Candidate
from .store import Dataset, Run

FOLDER = "candidates"


def candidates_in(run: Run) -> list[Dataset[Candidate]]:
    """Return the images of every generator, in the order of the folders' names."""
    names = [name for name in run.stages() if name == FOLDER or name.startswith(f"{FOLDER}-")]
    if FOLDER not in names and (run.folder / FOLDER).is_dir():
        names.insert(0, FOLDER)  # its rows are there before its manifest is
    return [run.dataset(name, Candidate) for name in names]


class CandidateLookup:
    """Every generator's images by id; only ids are held in memory."""

    def __init__(self, run: Run) -> None:
        self.datasets = candidates_in(run)
        self._owner = {
            identity: number for number, dataset in enumerate(self.datasets) for identity in dataset.column("id")
        }

    def __contains__(self, identity: str) -> bool:
        return identity in self._owner

    def __getitem__(self, identity: str) -> Candidate:
        return next(self.datasets[self._owner[identity]].take([identity]))

    def of_prompts(self, prompts: Iterable[str]) -> Iterator[Candidate]:
        """Yield the images of some prompts, one generator after the other."""
        wanted = set(prompts)
        for dataset in self.datasets:
            yield from dataset.matching("prompt_id", wanted)
