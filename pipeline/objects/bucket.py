"""A place in an object store: the few operations that sharing a run takes, whichever store it is.

Two of them decide between machines. `create` puts an object only where there is none. `swap` replaces one only where it
is still the version that was read (its ETag). Everything else is putting, getting and listing. Which version is newer,
and how old one is, the store alone says (`Found.modified`, `now`): no machine's clock is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ...base.errors import PrefmillError
from ...base.files import replacing
from ...base.locks import exclusive

CLOCK = "clock"
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "bucket does not exist", "InvalidBucketName")


@dataclass(frozen=True)
class Found:
    """An object's bytes, the version they are, and when the store took them, by its own clock."""

    data: bytes
    etag: str
    modified: datetime


class Bucket:
    """The objects below an address. `root`: the folder where the store is one of this machine's file systems."""

    def __init__(self, store: Any, address: str, root: Path | None = None) -> None:
        """`store` is one of obstore's."""
        self.store, self.address, self.root = store, address, root

    def create(self, name: str, data: bytes) -> str | None:
        """Put an object where there is none and return its ETag; None where there is one already."""
        import obstore

        with self._told():
            try:
                return _etag(obstore.put(self.store, name, data, mode="create", use_multipart=False))
            except obstore.exceptions.AlreadyExistsError:
                return None

    def swap(self, name: str, data: bytes, etag: str) -> str | None:
        """Replace the version of an object that has this ETag and return the new one's; None where it is another."""
        import obstore

        with self._told():
            if self.root is not None:  # file systems know no such operation, but locks
                with exclusive(self.root / ".swap.lock"):
                    found = self.look(name)
                    if found is None or found.etag != etag:
                        return None
                    return _etag(obstore.put(self.store, name, data))
            try:
                return _etag(obstore.put(self.store, name, data, mode={"e_tag": etag}, use_multipart=False))
            except obstore.exceptions.PreconditionError:
                return None

    def look(self, name: str) -> Found | None:
        """Return an object, None where there is none."""
        import obstore

        with self._told():
            try:
                answer = obstore.get(self.store, name)
                return Found(bytes(answer.bytes()), str(answer.meta["e_tag"]), answer.meta["last_modified"])
            except FileNotFoundError as error:
                if _is_no_bucket(error):
                    raise
                return None

    def names(self, folder: str) -> list[str]:
        """Return the names of the objects below a folder, sorted."""
        import obstore

        with self._told():
            return sorted(entry["path"] for page in obstore.list(self.store, folder) for entry in page)

    def put(self, name: str, source: Path) -> None:
        """Put a file's bytes, in parts where they are many. Raises OSError where the file cannot be read."""
        import obstore

        with source.open("rb") as file, self._told():
            obstore.put(self.store, name, file)

    def fetch(self, name: str, path: Path, sha256: str) -> bool:
        """Write an object's bytes into a file, whole or not at all; False where there is no such object.

        Raises PrefmillError where its SHA-256 does not begin with `sha256`, or the file system refuses.
        """
        import obstore

        with self._told():
            try:
                chunks = obstore.get(self.store, name).stream(min_chunk_size=8 << 20)
            except FileNotFoundError as error:
                if _is_no_bucket(error):
                    raise
                return False
            running = hashlib.sha256()
            with replacing(path) as temporary:
                with temporary.open("wb") as file:
                    for chunk in chunks:
                        running.update(chunk)
                        file.write(chunk)
                if not running.hexdigest().startswith(sha256):
                    raise PrefmillError(
                        f"{name} in {self.address} is damaged: its bytes do not have the checksum that is recorded",
                        "put back a copy of it, or begin the run again at another address",
                    )
        return True

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; those that are not there are no error."""
        import obstore

        with self._told():
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    obstore.delete(self.store, name)

    def now(self) -> datetime:
        """Return the time by the store's own clock: that of an object put now."""
        import obstore

        name = f"{CLOCK}/{uuid.uuid4().hex}"
        with self._told():
            obstore.put(self.store, name, b"")
            try:
                return obstore.head(self.store, name)["last_modified"]
            finally:
                self.delete([name])

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the store says into the error that names the address and its remedy."""
        import obstore

        if self.root is not None and not self.root.is_dir():
            raise PrefmillError(f"{self.address} is not there any more", "put the folder back")
        try:
            yield
        except (obstore.exceptions.BaseError, FileNotFoundError, NotImplementedError, PermissionError) as error:
            raise refusal(self.address, error) from error


def refusal(address: str, error: Exception) -> PrefmillError:
    """Return a store's error as one for people, without the queries of URLs, which can hold signatures."""
    text = re.sub(r"\?\S+", "", str(error))
    first = " ".join(text.split("Debug source:")[0].split())[:300]
    names = _CREDENTIALS.get(address.partition("://")[0], "its credentials")
    if any(mark in text for mark in _NO_BUCKET):
        return PrefmillError(f"{address}: there is no such bucket", "make it, or correct the address")
    if "169.254.169.254" in text or "Account must be specified" in text or "metadata.google" in text:
        return PrefmillError(f"{address}: no credentials were found", f"set {names} in the environment")
    if type(error).__name__ in {"PermissionDeniedError", "UnauthenticatedError", "PermissionError"}:
        return PrefmillError(f"{address} refuses our credentials: {first}", f"correct {names} in the environment")
    return PrefmillError(
        f"{address} cannot be used: {first}",
        "correct the address, the network or AWS_ENDPOINT_URL, then give the same command again: what was made is kept",
    )


def _is_no_bucket(error: Exception) -> bool:
    return any(mark in str(error) for mark in _NO_BUCKET)


def _etag(result: Any) -> str:
    return str(result["e_tag"])
