"""A loop: which stages there are, in which order, with which settings.

A loop of one's own is a class with another tuple and the settings of its stages:

    class Rated(Loop):
        STAGES = (PROMPTS, GENERATE, RATE)

        prompts: PromptsConfig = PromptsConfig()
        generate: GenerateConfig = GenerateConfig()
        rate: RateConfig = RateConfig()
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from ..base.errors import PrefmillError
from ..base.settings import Settings
from ..engine.settings import EngineSettings
from .declaration import StageDeclaration
from .execute.work import ExecutorConfig

L = TypeVar("L", bound="Loop")


class Loop(Settings):
    """The settings of a loop: one field for every stage (`StageDeclaration.setting`), and how the work is executed."""

    STAGES: ClassVar[tuple[StageDeclaration, ...]] = ()
    """In the order in which they run: a stage comes after those it reads."""

    engine: EngineSettings = EngineSettings()
    executor: ExecutorConfig = ExecutorConfig()

    @classmethod
    def __pydantic_init_subclass__(cls, **keywords: Any) -> None:
        super().__pydantic_init_subclass__(**keywords)
        for place, stage in enumerate(cls.STAGES):
            if stage.setting not in cls.model_fields:
                raise TypeError(f"{cls.__name__} has no field {stage.setting!r} for the settings of {stage.name}")
            for read in stage.reads:
                if read not in cls.STAGES[:place] and not read.optional:
                    raise TypeError(f"{cls.__name__}.STAGES: {stage.name} reads {read.name}, which does not precede it")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Loop:
        for stage in self.STAGES:
            settings = self.settings_of(stage)
            names = [entry.name for entry in settings] if isinstance(settings, tuple) else []
            if len(set(names)) < len(names):
                raise ValueError(f"{stage.setting} share a name: {', '.join(names)}")
        return self

    @model_serializer(mode="wrap")
    def _stages_first(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The settings as one reads them: those of the stages in their order, then the others."""
        values = serialize(self)
        first = [stage.setting for stage in self.STAGES if stage.setting in values]
        return {name: values[name] for name in dict.fromkeys([*first, *values])}

    @model_validator(mode="after")
    def _engines_are_of_stages(self) -> Loop:
        known = [stage.setting for stage in self.STAGES]
        if unknown := sorted(self.engine.stages.keys() - set(known)):
            raise ValueError(f"engine.stages: {unknown[0]!r} is no stage; the stages are {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _workers_choose_their_gpu(self) -> Loop:
        devices = [self.engine.device, *(stage.device or "" for stage in self.engine.stages.values())]
        named = [device for device in devices if device.startswith("cuda:")]
        if named and self.executor.engine in {"processes", "ray"}:
            raise ValueError(
                f"engine.device is {named[0]!r}, and executor.engine={self.executor.engine} gives each worker a GPU of "
                "its own: set engine.device=cuda"
            )
        return self

    def settings_of(self, stage: StageDeclaration) -> Any:
        """Return the settings of a stage: a tuple of them where it has several instances."""
        return getattr(self, stage.setting)


def every_loop(base: type[L]) -> Iterator[type[L]]:
    """Yield every loop that derives from `base` and has been imported."""
    for loop in base.__subclasses__():
        yield loop
        yield from every_loop(loop)


@dataclass(frozen=True)
class LoopReference:
    """A loop as another process can make it again: where its class is defined, and its settings as plain values."""

    module: str
    name: str
    file: str | None
    values: dict[str, Any]

    @classmethod
    def to(cls, loop: Loop) -> LoopReference:
        """Return the reference to a loop."""
        kind = type(loop)
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        return cls(kind.__module__, kind.__qualname__, file, loop.model_dump(mode="json"))

    def loop(self) -> Loop:
        """Return the loop. Raises PrefmillError where its class cannot be had: it is of a script that is running."""
        found: Any = self._module()
        for part in self.name.split("."):
            found = getattr(found, part, None)
        if not isinstance(found, type) or not issubclass(found, Loop):
            raise PrefmillError(
                f"a worker cannot import the loop {self.name} from {self.file or self.module}",
                "define it at the top of a file of its own, or compute in one process: --set executor.engine=local",
            )
        return found.model_validate(self.values)

    def _module(self) -> Any:
        if self.module == "__main__":
            return None
        try:
            return importlib.import_module(self.module)
        except ModuleNotFoundError:  # a recipe's file, which is loaded by its path
            spec = importlib.util.spec_from_file_location(self.module, self.file) if self.file else None
            if spec is None or spec.loader is None:
                return None
            module = importlib.util.module_from_spec(spec)
            sys.modules[self.module] = module
            spec.loader.exec_module(module)
            return module
