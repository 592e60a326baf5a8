"""The declaration of a stage: everything that loops, plans, readers and the screen need to know about it, once.

A file of `stages/` ends in a constant `STAGE`. A loop (`loop.py`) is a tuple of them, in the order in which they run;
nothing else names a stage, its record type or what it reads a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine.settings import EngineSettings
from .stage import Source, Stage
from .store import Dataset, Run


@dataclass(frozen=True)
class StageDeclaration:
    """One stage, apart from any run.

    `setting` names the loop's field that holds its settings. Where that field is a tuple, every entry is an instance
    of the stage with rows of its own, in the folder NAME-ENTRY (`entry.name`).
    """

    name: str
    """The folder of its rows."""
    output: type
    """Their record type."""
    setting: str
    source: Callable[[Inputs], Source[Any]]
    """Its inputs: the rows of the stages it reads, joined."""
    build: Callable[[Any, EngineSettings], Stage[Any, Any]]
    """Makes the stage of its settings; called only when there is something to do, so it imports models only then."""
    reads: tuple[StageDeclaration, ...] = ()
    unit: str = "rows"
    """What its inputs are called."""
    fan_out: Callable[[Any], int] = lambda settings: 1
    """Rows per input, as far as is known before."""
    checkpoints: Callable[[Any], Sequence[str]] = lambda settings: ()
    """The checkpoints that it loads; none: its rows depend on no model, precision or batch."""
    runtime: Callable[[Any], str] = lambda settings: ""
    """What runs its models, with its version, where its rows depend on that."""
    independent: frozenset[str] = frozenset()
    """Settings that no row depends on."""
    follows: StageDeclaration | None = None
    """The stage whose rows it takes from memory, one for one, where that one runs before it and hands them on."""
    hands_on: Callable[[Any], bool] = lambda settings: False
    """Whether its rows can be had from memory as they will be read from the store."""
    annotates: bool = False
    """Its rows are worth having for what they say of others, also where nothing is made of them."""
    optional: bool = False
    """Whether a loop may have no instance of it, and stages that read it go on without."""
    measure: Callable[[Inputs], dict[str, Any]] = lambda inputs: {}
    """What is worth knowing of all of its rows when they are there: numbers by measure and by what is measured."""
    remedy: str = ""
    """How to come by such rows, where a loop has no instance of the stage."""

    def instances(self, settings: Any) -> dict[str, Any]:
        """Return the settings of every instance by its folder."""
        if isinstance(settings, tuple):
            return {f"{self.name}-{entry.name}": entry for entry in settings}
        return {self.name: settings}

    def owns(self, folder: str) -> bool:
        """Return whether a folder holds rows of this stage, or of one of its instances."""
        return folder == self.name or folder.startswith(f"{self.name}-")


@dataclass(frozen=True)
class Inputs:
    """What a stage's source may look at: the rows of the stages it reads, and its own settings."""

    run: Run
    settings: Any = None
    folders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The instances of every stage, by its name, in the order in which they run."""
    shared: dict[Any, Any] = field(default_factory=dict)
    """What several stages of one run read alike, made once."""

    def rows(self, stage: StageDeclaration) -> Dataset[Any]:
        """Return the rows of a stage that has one instance."""
        return self.run.dataset(stage.name, stage.output)

    def instances(self, stage: StageDeclaration) -> list[Dataset[Any]]:
        """Return the rows of every instance of a stage."""
        return [self.run.dataset(folder, stage.output) for folder in self.folders.get(stage.name, (stage.name,))]

    def once(self, make: Callable[[Inputs], Any]) -> Any:
        """Return what `make` makes of these inputs, made once for all stages that ask for it."""
        if make not in self.shared:
            self.shared[make] = make(self)
        return self.shared[make]
