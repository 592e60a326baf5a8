"""A worker that is forked from a process which has the libraries imported: to start one takes no ten seconds."""

import os
import resource
import signal
import subprocess
import sys
from multiprocessing.context import ForkServerContext
from typing import Any

COLD = subprocess.Popen
LIBRARIES = [
    "matplotlib.figure",
    "deepspeed.ops.op_builder",
    "torch._dynamo",
    "transformers.models.llava.modeling_llava",
    "transformers.models.llava.processing_llava",
    "transformers.models.llama.modeling_llama",
    "transformers.models.clip.modeling_clip",
    "prefmill.train.inputs",
    "prefmill.engine.processors",
    "prefmill.train.trl_backend",
    "prefmill.train.preference.trainer",
    "prefmill.train.weights_only",
]
"""What a training imports, less the worker itself: its clock starts when it is imported."""


class ForkedWorker:
    """What the launcher sees of a subprocess.Popen. It gets no hold on the launcher's lock: the launcher stays here."""

    def __init__(self, context: ForkServerContext, command: list[str], environment: dict[str, str], log: str) -> None:
        largest_file = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.process = context.Process(target=work, args=(command[3:], environment, log, largest_file))
        self.process.start()

    def poll(self) -> int | None:
        return self.process.exitcode

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid or 0, number)

    def wait(self, timeout: float | None = None) -> None:
        self.process.join(timeout)
        if self.process.is_alive():
            raise subprocess.TimeoutExpired("worker", timeout or 0)

    def kill(self) -> None:
        self.process.kill()


def starter(context: ForkServerContext) -> Any:
    """Return what stands in for subprocess.Popen: only a worker that is started directly is forked."""

    def start(command: Any, **keywords: Any) -> Any:
        if command[1:3] != ["-m", "prefmill.train.worker"]:
            return COLD(command, **keywords)
        return ForkedWorker(context, command, keywords["env"], keywords["stdout"].name)

    return start


def work(arguments: list[str], environment: dict[str, str], log: str, largest_file: tuple[int, int]) -> None:
    """Become the process that the command line would start, and work."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_FSIZE, largest_file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(log, "ab") as file, open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["prefmill.train.worker", *arguments]
    from prefmill.train.worker import main

    main()
