"""A crew of processes on this machine, one for each GPU, over pipes. Nothing to install.

Which GPU a process sees is settled before it starts, so before anything in it imports torch. A process outlives a
stage: imports cost seconds, and the next stage needs the same ones.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

from .crew import Died, Event, StageOrder, Unit

_GRACE = 10.0
"""Seconds for the kernel to end a process that was killed: one that hangs in a driver may never end."""


@dataclass(frozen=True)
class _Process:
    name: str
    handle: subprocess.Popen[bytes]
    pipe: Connection
    device: str | None

    def kill(self) -> None:
        self.handle.kill()
        self.pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.handle.wait(_GRACE)


class ProcessCrew:
    """See the module. `devices`: what CUDA_VISIBLE_DEVICES is for each worker; None leaves it as it is."""

    engine = "processes"

    def __init__(self, devices: Sequence[str | None], threads: int | None = None) -> None:
        """`threads`: of each worker's torch; None leaves that to the environment."""
        self.free, self.threads, self.count = list(devices), threads, len(devices)
        self.team: dict[str, _Process] = {}
        self.spare: list[_Process] = []

    def size(self) -> int:
        """Return how many workers there can be."""
        return self.count

    def warm(self) -> None:
        """Start all processes: their imports take as long as this one needs for its first stages."""
        self.spare += [self._begin() for _ in range(len(self.free))]

    def start(self, order: StageOrder) -> str:
        """Have a process load a stage, one that is there already if there is one."""
        process = self.spare.pop() if self.spare else self._begin()
        self.team[process.name] = process
        self._tell(process, order)
        return process.name

    def submit(self, worker: str, unit: Unit) -> None:
        """Give a process a unit."""
        self._tell(self.team[worker], unit)

    def collect(self, seconds: float) -> list[tuple[str, Event]]:
        """Return the replies that have come, and who has died."""
        by_pipe = {process.pipe: process for process in self.team.values()}
        events: list[tuple[str, Event]] = []
        if not by_pipe:
            time.sleep(seconds)
        for pipe in wait(list(by_pipe), seconds) if by_pipe else ():
            process = by_pipe[pipe]  # pyright: ignore[reportArgumentType]
            try:
                events.append((process.name, pickle.loads(process.pipe.recv_bytes())))
            except (EOFError, OSError):
                events.append((process.name, Died(self._end_of(process))))
                self.stop(process.name, spent=True)
        return events

    def stop(self, worker: str, *, spent: bool) -> None:
        """Let go of a process: keep it for the next stage, or kill it."""
        process = self.team.pop(worker, None)
        if process is None:
            return
        if not spent:
            self.spare.append(process)
            return
        process.kill()
        self.free.append(process.device)

    def close(self) -> None:
        """Kill all processes."""
        for process in [*self.team.values(), *self.spare]:
            process.kill()
        self.team, self.spare = {}, []

    def _begin(self) -> _Process:
        device = self.free.pop(0)
        environment = dict(os.environ)
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        if self.threads is not None:
            environment["OMP_NUM_THREADS"] = str(self.threads)
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "prefmill.pipeline.execute.serve", str(theirs.fileno())]
        # their chatter goes to stderr: stdout is for what the command prints
        handle = subprocess.Popen(
            command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=2
        )
        theirs.close()
        return _Process(f"process {handle.pid}", handle, ours, device)

    @staticmethod
    def _tell(process: _Process, message: StageOrder | Unit) -> None:
        with contextlib.suppress(OSError):  # it has died: `collect` says so
            process.pipe.send_bytes(pickle.dumps(message))

    @staticmethod
    def _end_of(process: _Process) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.handle.wait(_GRACE)
        code = process.handle.returncode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            return f"{process.name} was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        return f"{process.name} ended with exit code {code}"
