"""Processes of a training that are forked from one which has the libraries imported: to start one takes no ten seconds.

They are told what a command line would tell them: arguments, environment, log, the lock that they hold, and the largest
file that they may write. Where there are several, torch.distributed.run starts them as ever.
"""

import os
import resource
import subprocess
import sys
from multiprocessing.context import ForkServerContext
from multiprocessing.reduction import DupFd
from typing import Any

LIBRARIES = (
    *("matplotlib.figure", "deepspeed.ops.op_builder", "torch._dynamo", "torch.distributed.run"),
    *("transformers.models.llava.modeling_llava", "transformers.models.llava.processing_llava"),
    *("transformers.models.llama.modeling_llama", "transformers.models.clip.modeling_clip"),
    *("prefmill.train.inputs", "prefmill.engine.processors", "prefmill.train.trl_backend"),
    *("prefmill.train.preference.trainer", "prefmill.train.weights_only", "prefmill.train.reward.work"),
)
"""What a training imports, less the worker itself: its clock starts when it is imported."""
COLD = subprocess.Popen


class Inherited:
    """A file descriptor that stays open in the other process."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> Any:
        return _keep, (DupFd(self.descriptor),)


def _keep(descriptor: Any) -> int:
    return descriptor.detach()


class Forked:
    """What subprocess.Popen shows of a process."""

    def __init__(self, process: Any) -> None:
        process.start()
        self.process, self.pid = process, process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    returncode = property(poll)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int | None:
        self.process.join(timeout)
        if self.process.is_alive():
            raise subprocess.TimeoutExpired("forked", timeout or 0)
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()


class Starter:
    """Stands in for subprocess.Popen: processes of a training are forked, all others started."""

    def __init__(self, context: ForkServerContext, log: str = "") -> None:
        self.context, self.log = context, log

    def __call__(self, args: Any, **keywords: Any) -> Any:
        module = args[args.index("-m") + 1] if "-m" in args else ""
        if module not in {"torch.distributed.run", "prefmill.train.worker"}:
            return COLD(args, **keywords)
        log = keywords["stdout"].name if keywords.get("stdout") else self.log
        kept = [Inherited(descriptor) for descriptor in keywords.get("pass_fds", ())]
        largest = resource.getrlimit(resource.RLIMIT_FSIZE)
        told = (module, list(args[args.index("-m") + 2 :]), dict(keywords["env"]), log, largest, kept)
        return Forked(self.context.Process(target=become, args=told))


def become(module, arguments, environment, log, largest, kept) -> None:
    """Be what the command line would start."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_FSIZE, largest)
    for path, mode, descriptors in ((os.devnull, os.O_RDONLY, [0]), (log, os.O_WRONLY | os.O_APPEND, [1, 2])):
        file = os.open(path, mode)
        for descriptor in descriptors:
            os.dup2(file, descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    if module == "prefmill.train.worker":
        from prefmill.train.worker import main

        main()
    else:
        import multiprocessing

        from torch.distributed import run
        from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

        subprocess_handler.Popen = Starter(multiprocessing.get_context("forkserver"), log)  # type: ignore[misc]
        run.main(arguments)
