"""Who may talk to the viewer: pages of its own, opened on this machine, and nobody else.

A page from elsewhere can send requests to 127.0.0.1 as well. It cannot read the answers, unless its own name is made to
point here (DNS rebinding): hence the check of the Host header. It could embed images, or post: hence the browser's own
word on where a request comes from (Sec-Fetch-Site), and for what is written a token that only the page knows.
"""

from __future__ import annotations

import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ["127.0.0.1", "localhost"]
TOKEN = "x-prefmill-token"
_OWN = {"same-origin", "none"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SameOrigin:
    """Refuses what another site's page asks for, except to open this one; says how browsers are to treat answers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        comes_from = Headers(scope=scope).get("sec-fetch-site", "none")
        is_opened = scope["path"] == "/" and scope["method"] == "GET"
        if comes_from not in _OWN and not is_opened:
            await PlainTextResponse("asked for by another site", 403)(scope, receive, with_headers)
        else:
            await self.app(scope, receive, with_headers)


def refuse_foreign(request: Request, token: str) -> None:
    """Raise HTTPException 403 for a request to write that does not come from the page itself, 415 for another body."""
    origin = request.headers.get("origin")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers.get('host')}":
        raise HTTPException(403, "asked for by another site")
    if not secrets.compare_digest(request.headers.get(TOKEN, "").encode(), token.encode()):
        raise HTTPException(403, "the token is not this page's: load it again")
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "a verdict is JSON")
