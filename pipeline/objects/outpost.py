"""A shared run from where its coordinator is not: to read it, or to work on it.

Both have a copy that follows the log and never adds to it. A worker fetches what its stage reads, computes a unit, and
puts its shard under a name of its own; it is part of the run when the coordinator has committed it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from ...base.errors import PrefmillError
from ...base.files import make_folder, remove
from ...base.locks import exclusive, holder_of
from .address import folder_of, open_bucket
from .bucket import Bucket
from .copy import LOCK, WorkingCopy
from .log import Log, staged_name

_TRIES = 5


@dataclass(frozen=True)
class WorkerShare:
    """What a worker needs to know of a shared run: where it is, and whose epoch it works in."""

    address: str
    epoch: int
    token: str


class Outpost:
    """A worker's place: the run's folder, at the coordinator's path, on a machine that is not the coordinator's."""

    def __init__(self, bucket: Bucket, folder: Path, epoch: int, reads: Collection[str]) -> None:
        """`reads`: the stages whose rows are wanted."""
        self.bucket, self.folder, self.epoch, self.reads = bucket, folder, epoch, frozenset(reads)

    @classmethod
    def of(cls, share: WorkerShare | None, folder: Path, reads: Collection[str]) -> Outpost | None:
        """Return the place for a run's folder; None where that is the coordinator's own, or nothing is shared."""
        if share is None or WorkingCopy(folder, share.address).note.token == share.token:
            return None
        return cls(open_bucket(share.address), folder, share.epoch, reads)

    def fetch(self) -> None:
        """Have what the stage reads as the log has it now."""
        follow(self.bucket, self.folder, self._wants)

    def send(self, path: Path) -> str:
        """Put a staged shard, and return the name it was put under; the file goes."""
        name = staged_name(self.epoch)
        self.bucket.put(name, path)
        remove(path)
        return name

    def _wants(self, path: str) -> bool:
        first, _, rest = path.partition("/")
        return not rest or rest == "_manifest.json" or first in self.reads


def follow(bucket: Bucket, folder: Path, wants: Callable[[str], bool] = lambda _: True) -> int:
    """Make a folder hold what the log at an address says, of the files that are wanted; return how many there are.

    Raises PrefmillError where a coordinator works in that folder, and where the store cannot be used.
    """
    make_folder(folder)
    busy = PrefmillError(
        f"{folder} is in use by {holder_of(folder / LOCK)}, which works on {bucket.address}", "choose another folder"
    )
    with exclusive(folder / ".follow.lock"), exclusive(folder / LOCK, busy):
        copy, log = WorkingCopy(folder, bucket.address), Log(bucket)
        for _ in range(_TRIES):
            log.read()
            files = {path: entry for path, entry in log.files.items() if wants(path)}
            missing, other, extra = copy.differing(files)
            if copy.is_new and (other or extra):
                raise PrefmillError(f"{folder} holds something else than {bucket.address}", "choose an empty folder")
            if not copy.fetch(bucket, files, [*missing, *other]):
                copy.remove(path for path in extra if path not in log.files)
                copy.write_note("")
                return len(files)
        raise PrefmillError(f"{bucket.address} changes faster than it can be read", "give the same command again")


def pulled(address: str, folder: Path | None = None) -> Path:
    """Return a folder that holds the run at an address as it is now; by default one in the cache.

    Raises PrefmillError where there is none, and where the store cannot be used.
    """
    bucket = open_bucket(address)
    place = folder or folder_of(bucket.address, "read")
    if not follow(bucket, place):
        raise PrefmillError(
            f"there is no run at {bucket.address}", f"begin one: prefmill run tiny --to {bucket.address}"
        )
    return place
