"""An HTTP server on this machine, for measurements and tests of what asks servers: it fails as it is told to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Received:
    """One request; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Sent:
    """One reply. `cut`: bytes of the body after which the connection ends; `reset`: it ends before anything is sent."""

    content: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    reset: bool = False


Respond = Callable[[Received], Awaitable[Sent]]


@contextmanager
def serving(respond: Respond) -> Iterator[str]:
    """Serve on a free port of this machine in a thread; yield the address, without a slash at its end."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    servers: list[asyncio.Server] = []

    async def begin() -> None:
        servers.append(
            await asyncio.start_server(lambda reader, writer: _talk(reader, writer, respond), "127.0.0.1", 0)
        )
        ready.set()

    async def end() -> None:
        servers[0].close()
        talks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        loop.stop()

    def run() -> None:
        loop.create_task(begin())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{servers[0].sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop)
        thread.join()
        loop.close()


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, respond: Respond) -> None:
    with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError), closing(writer):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ", 2)
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            sent = await respond(Received(method, path, headers, body))
            if sent.reset:
                writer.transport.abort()
                return
            told = {"content-type": "application/json", "content-length": str(len(sent.content)), **sent.headers}
            lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
            writer.write(f"HTTP/1.1 {sent.status} -\r\n{lines}\r\n".encode("latin-1") + sent.content[: sent.cut])
            await writer.drain()
            if sent.cut is not None:
                return
