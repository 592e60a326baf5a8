"""Which server is asked, and with which key. A key comes from the environment alone and is shown nowhere.

A server on this machine or in its own network needs no key. Errors quote what a server says, and servers quote keys:
all of it goes through `Access.without_key` first.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ....base.errors import PrefmillError
from ..settings import ModelChoice

VENDORS = {
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
}
"""By the first word of a backend: where its vendor's server is, and where the key for it is looked for."""


@dataclass(frozen=True)
class Access:
    """A server's address, the environment variable for its key, and the key, if there is one."""

    url: str
    variable: str
    key: str | None = field(default=None, repr=False)

    def without_key(self, text: str) -> str:
        """Return a text with the key struck out."""
        return text.replace(self.key, "***") if self.key else text


def access_of(choice: ModelChoice) -> Access:
    """Return a model's server with the key for it.

    Raises PrefmillError for a url that is none, one that carries a secret, and a key that is missing or damaged.
    """
    vendor_url, vendor_variable = VENDORS[choice.backend.partition("_")[0]]
    url = _checked(choice.url or vendor_url)
    variable = vendor_variable if choice.server.api_key is None else choice.server.api_key
    key = os.environ.get(variable, "").strip() if variable else ""
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise PrefmillError(
            f"the environment variable {variable} holds no key: there are spaces or special characters in it.",
            f"export {variable}=...",
        )
    if not key and variable and not is_near(url):
        raise PrefmillError(
            f"the environment variable {variable}, for the key to {url}, is not set.",
            f"export {variable}=..., or name another variable with server.api_key",
        )
    return Access(url, variable, key or None)


def is_near(url: str) -> bool:
    """Return whether a server is on this machine or in its own network, where keys are not the rule."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost"))
    return address.is_private  # loopback included


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PrefmillError(f"{url!r} is not the address of a server.", "give one like http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        # not shown: it would be kept in manifests
        raise PrefmillError(
            f"the address of the server {parts.hostname} carries more than a path.",
            "take away what is before @ and after ?; a key belongs in the environment",
        )
    return url.rstrip("/")
