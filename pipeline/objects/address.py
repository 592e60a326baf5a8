"""Addresses of runs in object stores: s3://BUCKET/PREFIX, gs://, az:// and, for a folder that is mounted, file:///.

An address names no secrets: it stands in files and messages. Credentials come from the environment alone, as each
store's own tools read them.
"""

from __future__ import annotations

import hashlib
import os
import re
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...base.errors import PrefmillError
from ...base.files import make_folder
from ...engine.settings import cache_folder
from .bucket import Bucket, refusal

SCHEMES = ("s3", "gs", "az", "file")
_PART = re.compile(r"[A-Za-z0-9_=+,.-]+")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,253}")


def checked_address(text: str) -> str:
    """Return an address without its last slash. Raises PrefmillError for one that is none, or names secrets."""
    scheme, _, rest = text.partition("://")
    if scheme == "memory":
        raise PrefmillError("memory:// is gone when the command ends", "give a folder, or s3://BUCKET/PREFIX")
    if scheme not in SCHEMES:
        raise PrefmillError(f"{scheme}:// is no object store that is known", f"use one of {', '.join(SCHEMES)}")
    if any(sign in rest for sign in "@?#"):
        raise PrefmillError(  # which is not repeated: it may be a secret
            f"the {scheme}:// address holds more than a bucket and a prefix",
            "leave out what follows ?, # or precedes @: credentials come from the environment",
        )
    bucket, _, prefix = rest.rstrip("/").partition("/")
    parts = prefix.split("/") if prefix else []
    names_place = (bucket == "" and bool(parts)) if scheme == "file" else bool(_BUCKET.fullmatch(bucket))
    if not names_place or not all(_PART.fullmatch(part) and part.strip(".") for part in parts):
        raise PrefmillError(
            f"{text!r} is no address of a run",
            "write file:///FOLDER"
            if scheme == "file"
            else f"write {scheme}://BUCKET/PREFIX, in letters, digits, . _ -",
        )
    return "/".join([f"{scheme}://{bucket}", *parts])


def is_address(text: str) -> bool:
    """Return whether a user means an object store, and not a folder."""
    return "://" in text


def open_bucket(address: str) -> Bucket:
    """Return what is at an address; nothing need be there yet.

    Raises PrefmillError for an address that is none, where obstore is not installed, and for settings in the
    environment that the store does not take. Whether it can be used is found when it is.
    """
    address = checked_address(address)
    require_objects_extra(address)
    from obstore import exceptions
    from obstore.store import LocalStore, from_url

    if address.startswith("file://"):
        root = Path(address.removeprefix("file://"))
        make_folder(root)
        return Bucket(LocalStore(root), address, root.resolve())
    clients: Any = {"connect_timeout": timedelta(seconds=10), "timeout": timedelta(seconds=300)}
    if os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true", "yes"}:  # which options given here would hide
        clients["allow_http"] = True
    tries: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
    try:
        return Bucket(from_url(address, client_options=clients, retry_config=tries), address)
    except exceptions.BaseError as error:
        raise refusal(address, error) from error


def require_objects_extra(address: str) -> None:
    """Raise PrefmillError where obstore is not installed."""
    if find_spec("obstore") is None:
        raise PrefmillError(
            f"{address} is in an object store, which needs obstore, and that only the extra `objects` installs",
            "pip install 'prefmill[objects]' (from a checkout: pip install -c constraints.txt -e '.[objects]')",
        )


def folder_of(address: str, purpose: str) -> Path:
    """Return where this machine keeps its copy of the run at an address, for a purpose: `work`, `read`."""
    digest = hashlib.sha256(address.encode()).hexdigest()[:12]
    return cache_folder() / "runs" / f"{address.rpartition('/')[2][:40]}-{digest}" / purpose
