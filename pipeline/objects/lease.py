"""Who works on a shared run: one coordinator, which says again and again that it is there.

`lease.json` names it. It is taken, renewed and given back by compare-and-swap, so of two that want it one gets it. It
has expired when the store took its last renewal longer ago than it says, by the store's own clock. The lease keeps two
machines from computing the same; that the late one of two cannot write is the log's business (`log.py`).
"""

from __future__ import annotations

import os
import socket
import uuid

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...base.errors import PrefmillError
from .bucket import Bucket
from .log import LeaseLost

LEASE = "lease.json"
SECONDS = 60.0
"""After which a coordinator that gives no sign of life may be taken over from. It gives four in that time."""


class _Held(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    token: str
    holder: str
    seconds: float = Field(ge=0, allow_inf_nan=False)
    renewals: int = 0
    released: bool = False


class Lease:
    """The right to write to what is at an address, as one coordinator has it."""

    def __init__(self, bucket: Bucket, seconds: float = SECONDS) -> None:
        self.bucket, self.seconds = bucket, seconds
        self.token = uuid.uuid4().hex
        self._held = _Held(token=self.token, holder=f"process {os.getpid()} on {socket.gethostname()}", seconds=seconds)
        self._etag = ""

    def take(self, dead: str = "") -> None:
        """Become the holder. `dead`: the token of one that is known to have ended.

        Raises PrefmillError where another holds it.
        """
        found = self.bucket.look(LEASE)
        if found is None:
            etag = self.bucket.create(LEASE, self._data())
        else:
            held = self._parsed(found.data)
            if not (held.released or held.token == dead):
                age = (self.bucket.now() - found.modified).total_seconds()
                if age <= held.seconds:
                    raise self._busy(held, age)
            etag = self.bucket.swap(LEASE, self._data(), found.etag)
        etag = etag or self._after_all()
        if etag is None:
            raise self._busy(None, 0.0)
        self._etag = etag

    def renew(self) -> None:
        """Say that the holder is there. Raises LeaseLost where it no longer is the holder."""
        self._held = self._held.model_copy(update={"renewals": self._held.renewals + 1})
        etag = self.bucket.swap(LEASE, self._data(), self._etag) or self._after_all()
        if etag is None:
            found = self.bucket.look(LEASE)
            raise LeaseLost(
                f"{self.bucket.address} was taken over: its lease is now held by "
                f"{self._parsed(found.data).holder if found else 'nobody'}",
                "let that one finish; the same command then continues from what it left",
            )
        self._etag = etag

    def release(self) -> None:
        """Let others in at once; where it was lost, there is nothing to give back."""
        self._held = self._held.model_copy(update={"released": True})
        self.bucket.swap(LEASE, self._data(), self._etag)

    def _after_all(self) -> str | None:
        """Return the ETag of what was refused and is there all the same: the store's answer to a first try was lost."""
        found = self.bucket.look(LEASE)
        return found.etag if found is not None and found.data == self._data() else None

    def _data(self) -> bytes:
        return self._held.model_dump_json().encode()

    def _parsed(self, data: bytes) -> _Held:
        try:
            return _Held.model_validate_json(data)
        except ValidationError as error:
            raise PrefmillError(
                f"{LEASE} of {self.bucket.address} is damaged", f"when nobody works there, remove {LEASE}"
            ) from error

    def _busy(self, held: _Held | None, age: float) -> PrefmillError:
        if held is None:
            return PrefmillError(
                f"{self.bucket.address} was just taken by another coordinator",
                "wait for it to end, or choose another --to",
            )
        left = max(1, round(held.seconds - age) + 1)
        return PrefmillError(
            f"{self.bucket.address} is in use by {held.holder}, seen {max(0, round(age))} s ago by the store's clock",
            f"wait for it to end, or stop it; if it has died, give the same command again in {left} s",
        )
