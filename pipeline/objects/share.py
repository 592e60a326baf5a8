"""A run that machines share through an object store, as its coordinator has it.

The coordinator computes in its own folder, as ever. A thread compares that folder with the log and commits what is new:
every file is put under a name of its own first, and one record then names them all. What dies between the two leaves
objects that nobody reads and the next coordinator sweeps. Another thread renews the lease.

Whatever goes wrong in a thread is raised where work would go on (`require`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ...base.errors import PrefmillError
from ...base.files import make_folder, reason_of, sha256_of
from ...base.locks import exclusive, holder_of
from .address import folder_of, open_bucket
from .bucket import Bucket
from .copy import LOCK, Stat, WorkingCopy, in_parallel
from .lease import SECONDS, Lease
from .log import Entry, LeaseLost, Log
from .outpost import WorkerShare

PUBLISH_SECONDS = 10.0
"""Between looks at the folder: with the executor's commit_seconds, what the death of a coordinator's machine costs."""
_TRIES, _PAUSE = 5, 0.2


class SharedRun:
    """The holder's view of a shared run: made by `shared`."""

    def __init__(self, bucket: Bucket, copy: WorkingCopy, lease: Lease) -> None:
        self.bucket, self.copy, self.lease = bucket, copy, lease
        self.log = Log(bucket, lease.token)
        self.notices: list[str] = []
        self.trouble: Exception | None = None
        self._publishing = threading.Lock()
        self._put: dict[tuple[str, Stat], Entry] = {}
        self._received: dict[str, Entry] = {}

    @property
    def address(self) -> str:
        """Where the run is."""
        return self.bucket.address

    @property
    def folder(self) -> Path:
        """This machine's copy."""
        return self.copy.folder

    def require(self) -> None:
        """Raise what keeps this coordinator from going on: the lease is lost, or the store is."""
        if self.trouble is not None:
            raise self.trouble

    def for_workers(self) -> WorkerShare:
        """Return what workers on other machines need."""
        return WorkerShare(self.address, self.log.epoch, self.lease.token)

    def open(self) -> None:
        """End all earlier coordinators' writing, and bring the copy and the log together, when the lease is taken."""
        continues = self.log.fence() == self.copy.note.token  # nobody has written since this copy did
        missing, other, extra = self.copy.differing(self.log.files)
        if self.log.files and self.copy.is_new and (other or extra):
            raise PrefmillError(
                f"{self.folder} holds files of another run than {self.address}", "choose an empty folder with --work"
            )
        if not continues:
            if made := self.copy.unpublished([*other, *extra]):
                aside = self.copy.put_aside(made, f"_unpublished-{self.log.epoch}")
                self.notices.append(
                    f"another coordinator has gone on since: {len(made)} files made here were not in {self.address} "
                    f"and are now in {aside}"
                )
            self.copy.remove(extra)
            missing += other
        if lost := self.copy.fetch(self.bucket, self.log.files, missing):
            raise PrefmillError(f"{self.address} has lost the bytes of {lost[0]}", "put back a copy of its objects")
        if missing:
            self.notices.append(f"{len(missing)} files were fetched from {self.address}")
        if swept := self.log.sweep():
            self.notices.append(f"{swept} objects that were never committed were swept from {self.address}")
        self.copy.write_note(self.lease.token)

    def publish(self) -> bool:
        """Commit what the folder holds and the log does not; False where files change faster than they are read.

        Raises LeaseLost where another coordinator has taken over, and PrefmillError where the store cannot be used.
        """
        with self._publishing:
            self.require()
            for _ in range(_TRIES):
                found = self.copy.scan()
                new = [path for path, stat in found.items() if not self._is_logged(path, stat)]
                in_parallel(partial(self._stage, found), new)
                now = self.copy.scan() if new else found
                if all((path, found[path]) in self._put and now.get(path) == found[path] for path in new):
                    break
                time.sleep(_PAUSE)
            else:
                return False
            files = {path: self._put[path, found[path]] for path in new}
            gone = [path for path in self.log.files if path not in found]
            if files or gone:
                before = {entry.object for entry in (*self.log.files.values(), *self._put.values())}
                self.log.append(files, gone)
                self.copy.write_note(self.lease.token)
                self._put.clear()
                self.bucket.delete(sorted(before - {entry.object for entry in self.log.files.values()}))
            return True

    def receive(self, name: str, path: Path, checksum: str) -> None:
        """Write the shard that a worker elsewhere put under a name; it is not put again when it is committed."""
        if not self.bucket.fetch(name, path, checksum):
            raise PrefmillError(f"{self.address} has lost what a worker put there", "give the same command again")
        sha256 = sha256_of(path)
        self._received[sha256] = Entry(object=name, size=path.stat().st_size, sha256=sha256)

    def give_back(self) -> None:
        """Give the lease back, where it is still ours."""
        if not isinstance(self.trouble, LeaseLost):
            with contextlib.suppress(PrefmillError):
                self.lease.release()

    def _is_logged(self, path: str, stat: Stat) -> bool:
        entry = self.log.files.get(path)
        try:
            return entry is not None and self.copy.hashed(path, stat) == entry.sha256
        except FileNotFoundError:
            return False

    def _stage(self, found: dict[str, Stat], path: str) -> str:
        stat = found[path]
        if (path, stat) not in self._put:
            try:
                sha256 = self.copy.hashed(path, stat)
                entry = self._received.pop(sha256, None)
                if entry is None:
                    entry = Entry(object=self.log.staged_name(), size=stat.size, sha256=sha256)
                    self.bucket.put(entry.object, self.folder / path)
                self._put[path, stat] = entry
            except FileNotFoundError:  # set aside, or replaced, since it was listed
                pass
        return path


@contextlib.contextmanager
def shared(
    address: str, folder: Path | None = None, *, seconds: float = SECONDS, every: float = PUBLISH_SECONDS
) -> Iterator[SharedRun]:
    """Hold the run at an address for writing, with this machine's copy of it in `folder`; publish it until the end.

    Raises PrefmillError where another coordinator holds it, where the store cannot be used, and at the end, where what
    was made could not be published.
    """
    bucket = open_bucket(address)
    with holding(bucket, folder or folder_of(bucket.address, "work"), seconds=seconds, every=every) as run:
        yield run


@contextlib.contextmanager
def holding(bucket: Bucket, folder: Path, *, seconds: float, every: float) -> Iterator[SharedRun]:
    """The same for a bucket that is open."""
    make_folder(folder)
    busy = PrefmillError(
        f"{folder}, this machine's copy of {bucket.address}, is in use by {holder_of(folder / LOCK)}",
        "wait for it to end or stop it",
    )
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(exclusive(folder / LOCK, busy))
        except OSError as error:
            raise PrefmillError(f"cannot write to {folder}: {reason_of(error)}", "choose another --work") from error
        copy = WorkingCopy(folder, bucket.address)
        run = SharedRun(bucket, copy, Lease(bucket, seconds))
        run.lease.take(dead=copy.note.token)
        held.callback(run.give_back)
        run.open()
        with _repeated(run, run.lease.renew, seconds / 4, patient=True):
            try:
                with _repeated(run, run.publish, every):
                    yield run
            except BaseException:
                with contextlib.suppress(PrefmillError):  # the first error is the one to tell
                    run.publish()
                raise
            if not run.publish():
                raise PrefmillError(f"files in {folder} keep changing", "end what writes there; give the command again")


@contextlib.contextmanager
def _repeated(run: SharedRun, action: Callable[[], object], every: float, *, patient: bool = False) -> Iterator[None]:
    """Do something every so many seconds beside the block. `patient`: only the loss of the lease ends that."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(every):
            try:
                action()
            except Exception as error:
                if patient and not isinstance(error, LeaseLost):
                    continue
                run.trouble = run.trouble or error
                return

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
