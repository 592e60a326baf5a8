"""The viewer's addresses: the page, what it shows as JSON, images by id, a selection as a file, verdicts.

Everything is read-only but the verdicts, which are only taken where a file for them was given. Handlers are plain
functions: Starlette runs each in a thread, so that a large image keeps nobody waiting for a list.
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ...base.errors import PrefmillError
from ...engine.images import UnreadableImage
from ..store import Run
from .comparisons import comparisons_of, read_comparison
from .download import as_json_lines, as_table, entries_meant
from .entries import EntryReader
from .guard import HOSTS, SameOrigin, refuse_foreign
from .index import RunIndex
from .overview import OverviewReader
from .pictures import SIDES, PictureReader
from .selection import SelectionFilter, select
from .verdicts import VerdictFile, verdict_of
from .watcher import SECONDS, RunWatcher

PAGE = Path(__file__).parent / "page"
MOST = 100  # lines of a list at a time
_FIRST_ROWS = 3.0  # seconds that the first list waits for rows
_BODY = 4096  # bytes of a verdict
_PIECE = 1 << 20


class Viewer:
    """A run with its index, readers and verdicts, and the answers to a page's requests."""

    def __init__(self, run: Run, verdicts: VerdictFile | None = None, seconds: float = SECONDS) -> None:
        self.run, self.verdicts = run, verdicts
        self.index = RunIndex(run)
        self.watcher = RunWatcher(self.index, seconds)
        self.entries = EntryReader(self.index)
        self.pictures, self.overview = PictureReader(self.entries), OverviewReader(self.index)
        self.token = secrets.token_urlsafe(24)
        self._files = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.is_file()}
        self._selected: OrderedDict[Any, np.ndarray] = OrderedDict()

    async def page(self, request: Request) -> Response:
        """The page itself, with the token that verdicts need."""
        text = self._files["index.html"].decode()
        return HTMLResponse(text.replace("@TOKEN@", self.token if self.verdicts else ""), headers=_FRESH)

    async def page_file(self, request: Request) -> Response:
        """A part of the page. In memory: a file is not worth a thread, and no address leads out of this folder."""
        name = request.path_params["name"]
        if name not in self._files or Path(name).suffix not in _PARTS:
            raise HTTPException(404, "there is no such file")
        return Response(self._files[name], media_type=_PARTS[Path(name).suffix], headers={"Cache-Control": "no-cache"})

    def show_overview(self, request: Request) -> Response:
        """The run at a glance."""
        self.watcher.wait(_FIRST_ROWS)
        told = self.overview.read() | {
            "failure": self.watcher.failure,
            "writable": self.verdicts is not None,
            "verdicts": self.verdicts.agreement() if self.verdicts else None,
            "comparisons": [compared.name for compared in comparisons_of(self.run)],
        }
        if self.verdicts and self.verdicts.damaged:
            lines = ", ".join(map(str, self.verdicts.damaged[:10]))
            told["problems"].append({"where": self.verdicts.path.name, "what": f"no verdict in line {lines}"})
        return _json(told)

    def list_entries(self, request: Request) -> Response:
        """Some lines of the list, of those that the filters ask for."""
        self.watcher.wait(_FIRST_ROWS)
        start, count = _range(request)
        chosen = self._select(SelectionFilter.parse(request.query_params))
        with self.index.lock:
            shown = chosen[start : start + count]
            lines = self.entries.lines(shown[shown < len(self.index)])
            return _json({"version": self.index.version, "total": len(chosen), "start": start, "entries": lines})

    def _select(self, wanted: SelectionFilter) -> np.ndarray:
        told = self.verdicts.by_key() if self.verdicts and wanted.verdict else {}
        key = self.index.version, wanted, tuple(told.items())
        if key not in self._selected:
            chosen = select(self.index, wanted, told)
            self._selected[key] = chosen
            while len(self._selected) > 4:
                self._selected.popitem(last=False)
            return chosen
        return self._selected[key]

    def show_entry(self, request: Request) -> Response:
        """One entry in full."""
        self.watcher.wait(_FIRST_ROWS)
        with self.index.lock:
            entry = self.entries.entry_called(request.path_params["identity"])
            if entry is None:
                raise HTTPException(404, "the run has no such entry, or has not been read that far")
            found = self.entries.whole(entry)
            found["image_tags"] = self.pictures.tags(entry)
        for question in found["questions"]:
            for pair in question["pairs"]:
                pair["verdict"] = self.verdicts.of(pair["id"]) if self.verdicts else None
        return _json(found)

    def list_rejects(self, request: Request) -> Response:
        """Some of what went no further, by stage and reason."""
        self.watcher.wait(_FIRST_ROWS)
        start, count = _range(request)
        given = request.query_params
        with self.index.lock:
            numbers = self.index.rejects.of_kind(given.get("stage") or None, given.get("reason") or None)
            rows = self.entries.rejects(numbers[start : start + count], with_entries=True)
        return _json({"total": len(numbers), "start": start, "rejects": rows})

    def show_comparison(self, request: Request) -> Response:
        """Some answers of an evaluation, before and after."""
        start, count = _range(request)
        name = request.query_params.get("name", "")
        compared = next((one for one in comparisons_of(self.run) if one.name == name), None)
        if compared is None:
            raise HTTPException(404, "the run has no such evaluation")
        rows = read_comparison(compared)
        changed = [row for row in rows if row["before"] != row["after"]]
        shown = changed if request.query_params.get("changed") else rows
        return _json(
            {"total": len(shown), "all": len(rows), "changed": len(changed), "rows": shown[start : start + count]}
        )

    def show_image(self, request: Request) -> Response:
        """An image by its id: small, large, or the stored file."""
        size = request.path_params["size"]
        if size not in {*SIDES, "original"}:
            raise HTTPException(404, "there is no such size")
        try:
            picture = self.pictures.read(request.path_params["identity"], size)
        except UnreadableImage as error:
            return _json({"error": error.message, "reason": error.reason, "detail": error.detail}, 415)
        if picture is None:
            raise HTTPException(404, "the run has no such image")
        headers = {"ETag": f'"{picture.tag}"', "Cache-Control": _CACHED if "v" in request.query_params else "no-cache"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        if not picture.media_type.startswith("image/"):
            headers["Content-Disposition"] = "attachment"
        if len(picture.data) <= _PIECE:
            return Response(bytes(picture.data), media_type=picture.media_type, headers=headers)
        headers["Content-Length"] = str(len(picture.data))
        pieces = (bytes(picture.data[at : at + _PIECE]) for at in range(0, len(picture.data), _PIECE))
        return StreamingResponse(pieces, media_type=picture.media_type, headers=headers)

    def download(self, request: Request) -> Response:
        """The selection as a file."""
        form = request.path_params["form"]
        if form not in _FORMS:
            raise HTTPException(404, f"there are {', '.join(_FORMS)}")
        write, media_type = _FORMS[form]
        wanted = SelectionFilter.parse(request.query_params)
        lines = write(entries_meant(self.index, wanted, self.verdicts))
        disposition = {"Content-Disposition": f'attachment; filename="{form}"'}
        return StreamingResponse((line.encode() for line in lines), media_type=media_type, headers=disposition)

    async def take_verdict(self, request: Request) -> Response:
        """Write down a verdict on a pair."""
        if self.verdicts is None:
            raise HTTPException(403, "this page is read-only: start it with --verdicts FILE")
        refuse_foreign(request, self.token)
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > _BODY:
                raise HTTPException(413, "a verdict is shorter than that")
        try:
            given = json.loads(body)
            entry, pair, verdict = given["entry"], given["pair"], given["verdict"]
            if not isinstance(entry, str) or not isinstance(pair, str):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise HTTPException(400, "a verdict has entry, pair and verdict") from None
        return await run_in_threadpool(self._write_verdict, self.verdicts, entry, pair, verdict)

    def _write_verdict(self, verdicts: VerdictFile, identity: str, pair_id: str, verdict: Any) -> Response:
        with self.index.lock:
            entry = self.entries.entry_called(identity)
            found = self.entries.whole(entry)["questions"] if entry is not None else []
        pairs = {pair["id"]: (pair, question) for question in found for pair in question["pairs"]}
        if pair_id not in pairs:
            raise HTTPException(404, "the run has no such pair")
        pair, question = pairs[pair_id]
        responders = {answer["id"]: answer["responder"] for answer in question["answers"]}
        verdicts.add(verdict_of(pair, verdict, responders))
        return _json({"verdict": verdicts.of(pair_id), "verdicts": verdicts.agreement()})


class RequestsFirst:
    """Has the thread that reads the run wait while somebody waits for an answer."""

    def __init__(self, app: ASGIApp, watcher: RunWatcher) -> None:
        self.app, self.watcher = app, watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        with self.watcher.request():
            await self.app(scope, receive, send)


def create_app(viewer: Viewer) -> Starlette:
    """Return the application that answers for a viewer, whose `watcher` runs as long as it is wanted."""
    routes = [
        Route("/", viewer.page),
        Route("/api/overview", viewer.show_overview),
        Route("/api/entries", viewer.list_entries),
        Route("/api/entries/{identity}", viewer.show_entry),
        Route("/api/rejects", viewer.list_rejects),
        Route("/api/comparison", viewer.show_comparison),
        Route("/api/verdicts", viewer.take_verdict, methods=["POST"]),
        Route("/image/{identity}/{size}", viewer.show_image),
        Route("/download/{form}", viewer.download),
        Route("/page/{name}", viewer.page_file),
    ]
    guards = [Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False), Middleware(SameOrigin)]
    guards.append(Middleware(RequestsFirst, watcher=viewer.watcher))
    errors: dict[Any, Callable[..., Response]] = {PrefmillError: _refused, HTTPException: _refused}
    return Starlette(routes=routes, middleware=guards, exception_handlers=errors)


def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return _json({"error": error.detail}, error.status_code)
    assert isinstance(error, PrefmillError)
    return _json({"error": error.message, "fix": error.fix}, 422)


def _range(request: Request) -> tuple[int, int]:
    try:
        start, count = (int(request.query_params.get(name, known)) for name, known in (("start", 0), ("count", 50)))
    except ValueError:
        raise HTTPException(400, "start and count are numbers") from None
    return min(max(start, 0), 1 << 40), min(max(count, 0), MOST)


def _json(value: Any, status: int = 200) -> Response:
    return JSONResponse(value, status, headers=_FRESH)


_FRESH = {"Cache-Control": "no-store"}
_CACHED = "private, max-age=31536000, immutable"
_PARTS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_FORMS = {
    "entries.jsonl": (as_json_lines, "application/x-ndjson"),
    "pairs.csv": (as_table, "text/csv; charset=utf-8"),
}
