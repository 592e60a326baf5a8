"""`prefmill view`: a run as a page in a browser on this machine, while it goes on or afterwards."""

from __future__ import annotations

import contextlib
import errno
import socket
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ..base.errors import PrefmillError
from ..base.files import reason_of
from ..base.text import printable
from .options import RunFolder, as_path

HOST = "127.0.0.1"
PORT = 8765
_FIRST_ROWS = 5.0  # seconds
_TRIED = 20  # ports, from PORT on; then any that is free


def view_command(
    folder: RunFolder,
    port: Annotated[int | None, typer.Option(help="by default the first free one from 8765", min=0, max=65535)] = None,
    verdicts: Annotated[
        Path | None,
        typer.Option(help="take verdicts on pairs, into this file (JSON lines)", parser=as_path, metavar="FILE"),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="open the page in a browser")] = False,
) -> None:
    """Look at a run in a browser: images, answers, pairs, rejects; on this machine only, live, read-only."""
    from ..pipeline.store import Run

    run = Run.open(folder)
    try:
        import uvicorn

        from ..pipeline.viewing.server import Viewer, create_app
    except ModuleNotFoundError as error:
        if error.name not in {"starlette", "uvicorn", "anyio", "click", "h11"}:
            raise
        raise PrefmillError(
            f"the viewer needs {error.name}, which is not installed", "pip install prefmill[view]"
        ) from error
    from ..pipeline.viewing.verdicts import VerdictFile

    with contextlib.ExitStack() as held:
        listening = held.enter_context(listen(port))
        kept = held.enter_context(VerdictFile.writing(verdicts)) if verdicts else None
        address = f"http://{HOST}:{listening.getsockname()[1]}/"
        viewer = Viewer(run, kept)
        # without a lifespan, which a second Ctrl-C would tear: the thread that reads ends with this block
        options = {"lifespan": "off", "log_level": "error", "access_log": False, "timeout_graceful_shutdown": 1}
        config = uvicorn.Config(create_app(viewer), **options)
        held.enter_context(viewer.watcher.running())
        viewer.watcher.wait(_FIRST_ROWS)  # so that the page has something to show when it is opened
        told = f"verdicts go to {verdicts}" if verdicts else "read-only; --verdicts FILE takes verdicts on pairs"
        typer.echo(printable(f"{folder} is at {address} ({told})", keep="\n"))
        typer.echo("Ctrl-C stops", err=True)
        if open_browser:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
    typer.echo("stopped", err=True)


@contextlib.contextmanager
def listen(port: int | None) -> Iterator[socket.socket]:
    """Yield a socket that listens on this machine alone: at `port`, or by default at the first free one from 8765.

    Raises PrefmillError where `port` is taken or may not be used.
    """
    wanted = [port] if port is not None else [*range(PORT, PORT + _TRIED), 0]
    for number in wanted:
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((HOST, number))
                listening.listen(128)
            except OSError as error:
                if number == wanted[-1] or error.errno != errno.EADDRINUSE:
                    what = "in use by another program" if error.errno == errno.EADDRINUSE else reason_of(error)
                    fix = "choose another with --port, or leave it out: the next free one is taken"
                    raise PrefmillError(f"cannot listen on port {number}: {what}", fix) from error
                continue
            yield listening
            return
