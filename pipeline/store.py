"""The store: a run is a folder, a stage's output is a sub-folder of shards with a manifest.

    run/
      run.yaml                  the configuration the run was started with
      .lock                     held by the one process that may write
      prompts/                  one folder per stage
        _manifest.json          configuration, models, backend, versions, counts, rejects by reason, seconds
        000000000-000000010-4be0….parquet
        _set-aside/             shards found damaged or out of date, kept for a look
        _staged/                shards that workers have written and the holder of the lock has not yet committed
      candidates/ ...

Names that begin with an underscore are skipped by Parquet readers, so a stage's folder opens as a table in any of them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..base.errors import PrefmillError
from ..base.files import make_folder, read_text, reason_of, remove, remove_leftovers, write_text
from ..base.locks import exclusive, holder_of
from .dataset import Dataset
from .shards import STAGED

if TYPE_CHECKING:
    from .objects.share import SharedRun

__all__ = ["MANIFEST", "Dataset", "Run"]

R = TypeVar("R")
MANIFEST = "_manifest.json"
LOCK = ".lock"
Content = TypeVar("Content", bound=BaseModel)
_Number = Annotated[float, Field(allow_inf_nan=False)]


class ManifestFields(BaseModel):
    """What a stage's manifest must hold, of the right type, for those who read it; `manifest.py` says what it means."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    fingerprint: str = ""
    config: dict[str, Any] = {}
    models: list[str] = []
    notices: list[str] = []
    complete: bool = False
    inputs: int = 0
    outputs: int = 0
    rejects: dict[str, int] = {}
    seconds: _Number = 0.0
    cost: _Number | None = None
    price_per_hour: _Number | None = None
    measures: dict[str, dict[str, dict[str, _Number | None]]] = {}


class Run:
    """A run's folder. One process may write to it at a time; any number may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sharing: SharedRun | None = None
        """Where it is published as it goes on, so that other machines have it."""

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open an existing run for reading. Raises PrefmillError where there is none."""
        folder = Path(folder)
        try:
            is_run = folder.is_dir() and (any(folder.glob(f"*/{MANIFEST}")) or (folder / "run.yaml").exists())
        except (OSError, ValueError):  # a name that no file system takes
            is_run = False
        if not is_run:
            raise PrefmillError(
                f"{folder} is not a run folder",
                "make one with `prefmill run micro --to FOLDER` or `prefmill import`",
            )
        return cls(folder)

    @classmethod
    @contextlib.contextmanager
    def writing(cls, folder: Path | str) -> Iterator[Self]:
        """Open or create a run for writing and hold its lock. Raises PrefmillError when another process does."""
        run = cls(Path(folder))
        make_folder(run.folder)
        lock = run.folder / LOCK
        busy = PrefmillError(
            f"{folder} is in use by {holder_of(lock)}",
            "wait for it to end or stop it, or choose another folder with --to",
        )
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(exclusive(lock, busy))
            except OSError as error:
                raise PrefmillError(
                    f"cannot write to {folder}: {reason_of(error)}", "choose another folder with --to"
                ) from error
            run._remove_leftovers()
            yield run

    def _remove_leftovers(self) -> None:
        remove_leftovers(self.folder)
        for folder in self.folder.iterdir():
            if not folder.is_dir():
                continue
            with contextlib.suppress(_InUse), contextlib.ExitStack() as held:
                if (folder / LOCK).exists():  # a training, which may be under way beside this run
                    held.enter_context(exclusive(folder / LOCK, _InUse()))
                remove_leftovers(folder)
            with contextlib.suppress(OSError):  # a worker that was given up for dead may still be writing there
                remove(folder / STAGED)

    def dataset(self, name: str, record_type: type[R]) -> Dataset[R]:
        """Return the rows a stage has committed so far (none for a stage that has not run)."""
        return Dataset(self.folder / name, record_type)

    def stages(self) -> list[str]:
        """Return the names of the stages that have written to this run, sorted."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{MANIFEST}"))

    def has(self, name: str) -> bool:
        """Return whether a stage has written to this run."""
        return (self.folder / name / MANIFEST).exists()

    def read_text(self, name: str) -> str | None:
        """Return the text of a file of this run, None where there is none.

        Raises PrefmillError where it cannot be read as UTF-8.
        """
        path = self.folder / name
        return read_text(path, _REPAIR.format(path=path))

    def read_json(self, name: str, kind: type[Content]) -> Content | None:
        """Return a JSON file of this run as what it should hold, None where there is none.

        Raises PrefmillError where it cannot be read, or holds something else.
        """
        text = self.read_text(name)
        if text is None:
            return None
        try:
            return kind.model_validate_json(text)
        except ValidationError as error:
            raise self.damaged(name, error) from error

    def damaged(self, name: str, what: Exception | str) -> PrefmillError:
        """Return the error for a file of this run that does not hold what it should."""
        path = self.folder / name
        if isinstance(what, ValidationError):
            first = what.errors(include_url=False)[0]
            what = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
        return PrefmillError(f"{path} is damaged ({what})", _REPAIR.format(path=path))

    def manifest(self, name: str) -> dict[str, Any]:
        """Return a stage's manifest, empty when it has not run.

        Raises PrefmillError when it is damaged; so does what is returned, when it is asked for a key that is not there.
        """
        text = self.read_text(f"{name}/{MANIFEST}")
        if text is None:
            return {}
        try:
            content = json.loads(text)
            ManifestFields.model_validate(content)
        except (ValueError, RecursionError) as error:
            raise self.damaged(f"{name}/{MANIFEST}", error) from error
        return _Manifest(content, lambda key: self.damaged(f"{name}/{MANIFEST}", f"it has no {key!r}"))

    def write_manifest(self, name: str, manifest: dict[str, Any]) -> None:
        """Replace a stage's manifest."""
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        write_text(self.folder / name / MANIFEST, text)

    def forget_manifest(self, name: str) -> None:
        """Remove a stage's manifest, before its rows are made again with another configuration."""
        (self.folder / name / MANIFEST).unlink(missing_ok=True)


class _Manifest(dict[str, Any]):
    """A manifest that names its file where a key is missing."""

    def __init__(self, content: dict[str, Any], missing: Callable[[str], PrefmillError]) -> None:
        super().__init__(content)
        self._missing = missing

    def __missing__(self, key: str) -> Any:
        raise self._missing(key)


class _InUse(Exception):
    """Somebody else writes to a folder inside the run's."""


_REPAIR = "put back a copy of {path}, or delete it and give the command that wrote it again"
