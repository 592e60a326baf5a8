"""One HTTP exchange, read whole: a body that ends too early is an error, and so is one without an end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from .access import Access

LARGEST = 64 << 20
"""Bytes of one reply. A hundred thousand tokens are less than one of these megabytes."""


class BrokenExchange(Exception):
    """No whole reply came: `reason` in a word."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Exchange:
    """A whole reply."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Transport:
    """Connections to a server, kept open between calls."""

    def __init__(self, access: Access, headers: Mapping[str, str], connections: int, timeout: float) -> None:
        self.access = access
        self._client = httpx2.AsyncClient(
            headers={"User-Agent": "prefmill", **headers},
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=connections),
            timeout=httpx2.Timeout(timeout, pool=None),
            verify=access.url.startswith("https:"),  # without TLS there are no certificates to load
        )

    async def send(
        self, method: str, path: str, *, largest: int = LARGEST, headers: Mapping[str, str] | None = None, **what: Any
    ) -> Exchange:
        """Return the reply to a request; `path` is appended to the server's address.

        Raises BrokenExchange where it does not come, or not whole.
        """
        try:
            async with self._client.stream(method, self.access.url + path, headers=headers, **what) as response:
                parts, size = [], 0
                async for part in response.aiter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > largest:
                        raise BrokenExchange("too_large", f"more than {largest >> 20} MB")
                return Exchange(response.status_code, response.headers, b"".join(parts))
        except httpx2.TimeoutException as error:
            raise BrokenExchange("timeout", type(error).__name__) from error
        except httpx2.HTTPError as error:
            said = self.access.without_key(str(error))
            raise BrokenExchange("connection", f"{type(error).__name__}: {said}"[:200]) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
