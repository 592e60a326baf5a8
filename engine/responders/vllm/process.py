"""One process with one model of vLLM's: started, asked over pipes, ended with all that it started.

Two pipes of its own carry the messages, so what libraries print cannot get between them; prints and errors go to a
file, whose end explains a failure. The process leads a group, which is killed as a whole: vLLM computes in a child.
"""

import contextlib
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ....base.errors import PrefmillError
from ....base.text import printable
from .interpreter import VARIABLE, WORKER
from .worker import BrokenMessage, read_message, write_message

_LOOK_SECONDS = 0.5
_END_SECONDS = 20.0
_TAIL_BYTES, _TAIL_LINES = 16384, 12
_MEMORY = ("out of memory", "No available memory", "Free memory on device", "memory for cache blocks", "OutOfMemory")
_MEMORY_FIX = (
    "lower the responder's vllm.memory_share or vllm.max_tokens, or end what else uses the device (nvidia-smi shows it)"
)


class WorkerProcess:
    """A process that loads a model at once; `about` is what it then told of itself: version, device, context.

    Raises PrefmillError, with the last lines it printed, where it does not come up within `start_seconds`.
    """

    def __init__(
        self, python: str, name: str, load: dict[str, Any], environment: Mapping[str, str], start_seconds: float
    ) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        their_requests, ours = os.pipe()
        replies, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(
                [python, str(WORKER), str(their_requests), str(theirs)],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(their_requests, theirs),
                env=dict(environment),
                start_new_session=True,
            )
        except OSError as error:
            raise PrefmillError(f"{python} does not start ({error.strerror}).", f"correct {VARIABLE}") from error
        finally:
            os.close(their_requests)
            os.close(theirs)
        self._requests: BinaryIO = os.fdopen(ours, "wb")
        self._received: queue.Queue[dict[str, Any] | BrokenMessage | None] = queue.Queue()
        threading.Thread(target=self._receive, args=(os.fdopen(replies, "rb"),), daemon=True).start()
        self.about: dict[str, Any] = self._ask(load, b"", "ready", start_seconds, "load its model")

    def ask(self, message: dict[str, Any], payload: bytes, seconds: float) -> list[dict[str, Any]]:
        """Return the replies to a batch of prompts. `seconds` may pass between two signs of life.

        Raises PrefmillError where the process dies, hangs or answers nonsense; it is gone then.
        """
        replies = self._ask(message, payload, "replies", seconds, "finish another answer")
        if not isinstance(replies, list) or len(replies) != len(message["prompts"]):
            self._fail(f"returned {str(replies)[:80]!r} for {len(message['prompts'])} prompts")
        return replies

    def stop(self) -> None:
        """End the process and all that it started, and return when they are gone, with what they held of a GPU."""
        with contextlib.suppress(OSError):
            self._requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS / 4)  # the end of its requests ends it
        self._kill()
        self._log.close()

    def _ask(self, message: dict[str, Any], payload: bytes, field: str, seconds: float, aim: str) -> Any:
        # From a thread: a process that does not read would keep us here for ever.
        threading.Thread(target=self._send, args=(message, payload), daemon=True).start()
        deadline = time.monotonic() + seconds
        while True:
            try:
                received = self._received.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                if time.monotonic() > deadline:
                    self._fail(f"did not {aim} within {seconds:g} seconds")
                continue
            if received is None:
                self._fail(self._death())
            elif isinstance(received, BrokenMessage):
                self._fail(f"wrote no message: {received}")
            elif field in received:
                return received[field]
            deadline = time.monotonic() + seconds

    def _send(self, message: dict[str, Any], payload: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # of a process that is gone, which the reader finds out
            write_message(self._requests, message, payload)

    def _receive(self, stream: BinaryIO) -> None:
        with stream, contextlib.suppress(OSError):
            try:
                while (received := read_message(stream)) is not None:
                    self._received.put(received[0])
            except BrokenMessage as error:
                self._received.put(error)
        self._received.put(None)

    def _death(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS / 4)
        code = self._process.poll()
        if code == -signal.SIGKILL:
            return "was killed by SIGKILL, as the system does where memory runs out"
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}" if code is not None else "closed its pipe"

    def _fail(self, what: str) -> None:
        self._kill()
        tail = self._tail()
        fix = "give the same command again: answers that were committed are kept"
        if "SIGKILL" in what or any(sign in tail for sign in _MEMORY):
            fix = _MEMORY_FIX
        said = f"; its last lines:\n{tail}" if tail else ""
        raise PrefmillError(f"the vLLM process of {self.name} {what}{said}", fix)

    def _tail(self) -> str:
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - _TAIL_BYTES))
        lines = self._log.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(f"    {printable(line)[:300]}" for line in lines if line.strip())

    def _kill(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + _END_SECONDS
        while time.monotonic() < deadline and _is_running(self._process.pid):
            time.sleep(0.02)


def _is_running(group: int) -> bool:
    """Whether a group has a process yet; one that ended and that nobody has asked after holds nothing any more."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            state, _, owner = status.read_bytes().rpartition(b")")[2].split()[:3]
            if int(owner) == group and state not in (b"Z", b"X"):
                return True
    return False
