"""Processes of a training that are forked from one which has the libraries imported: to start one takes no ten seconds.

They are told what a command line would tell them: arguments, environment, log, the lock that they hold, and the largest
file that they may write. Where there are several, torch.distributed.run starts them as ever. They call themselves
`worker` and `run`, for their command line is that of the process which they were forked from.
"""

import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, Self

import psutil
from prefmill.cli.main import main
from prefmill.train.adapter_training import train
from prefmill.train.settings import DPOTrainingConfig

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


class Understudies:
    """Processes that are forked while this one has no threads yet, and wait until it starts them.

    What it forked later from a fork server would be forked from a new one, without the libraries.
    """

    def __init__(self, count: int, held: Sequence[int] = ()) -> None:
        """`held` are descriptors that stay here."""
        context, self.waiting = multiprocessing.get_context("fork"), []
        for _ in range(count):
            told, tell = context.Pipe(duplex=False)
            process = context.Process(target=self._wait, args=(told, tell, held))
            process.start()
            told.close()
            self.waiting.append((process, tell))

    @staticmethod
    def _wait(told: Any, tell: Any, held: Sequence[int]) -> None:
        tell.close()
        for descriptor in held:
            os.close(descriptor)
        with contextlib.suppress(EOFError):  # nobody started it
            target, args = told.recv()
            target(*args)

    def __call__(self, target: Callable[..., None], args: tuple[Any, ...]) -> Any:
        process, tell = self.waiting.pop(0)
        tell.send((target, args))
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        for _, tell in self.waiting:
            tell.close()


class Starter:
    """Stands in for subprocess.Popen: processes of a training are forked, all others started."""

    def __init__(self, fork: Callable[[Callable[..., None], tuple[Any, ...]], Any], log: str = "") -> None:
        self.fork, self.log = fork, log

    def __call__(self, args: Any, **keywords: Any) -> Any:
        module = args[args.index("-m") + 1] if "-m" in args else ""
        if module not in {"torch.distributed.run", "prefmill.train.worker"}:
            return COLD(args, **keywords)
        log = keywords["stdout"].name if keywords.get("stdout") else self.log
        kept = [Inherited(descriptor) for descriptor in keywords.get("pass_fds", ())]
        largest = resource.getrlimit(resource.RLIMIT_FSIZE)
        told = (module, list(args[args.index("-m") + 2 :]), dict(keywords["env"]), log, largest, kept)
        return Forked(self.fork(become, told))


def fork(target: Callable[..., None], args: tuple[Any, ...]) -> Any:
    """Start a process from the fork server, which has the libraries."""
    process = multiprocessing.get_context("forkserver").Process(target=target, args=args)
    process.start()
    return process


def be_launcher(run: Path, output: Path, config: DPOTrainingConfig, told: Path, environment: dict[str, str]) -> None:
    """Be a launcher in a process of its own, whose workers are forked too; what it says goes into a file."""
    os.environ.update(environment)
    with Understudies(1) as understudies, told.open("w") as file:
        subprocess.Popen = Starter(understudies)  # type: ignore[misc]
        train(run, output, config, lambda event: print(event.message or event.step, file=file, flush=True))


def be_command(arguments: list[str], told: Path) -> None:
    """Be the command `prefmill`; its stderr goes into a file."""
    with told.open("w") as file:
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a script it is ignored
    sys.argv = ["prefmill", *arguments]
    main()


def become(module, arguments, environment, log, largest, kept) -> None:
    """Be what the command line would start."""
    os.setsid()
    Path("/proc/self/comm").write_text(module.rpartition(".")[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, largest)
    for path, mode, descriptors in ((os.devnull, os.O_RDONLY, [0]), (log, os.O_WRONLY | os.O_APPEND, [1, 2])):
        file = os.open(path, mode)
        for descriptor in descriptors:
            os.dup2(file, descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    if module == "prefmill.train.worker":
        from prefmill.train import worker

        worker.main()
    else:
        from torch.distributed import run
        from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

        count = next(int(word.partition("=")[2]) for word in arguments if word.startswith("--nproc-per-node="))
        with Understudies(count, kept) as understudies:
            subprocess_handler.Popen = Starter(understudies, log)  # type: ignore[misc]
            run.main(arguments)


def workers_of(output: Path) -> list[psutil.Process]:
    """The live processes that train into a folder, without their starter: the workers that write into its log."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            log = Path(f"/proc/{process.pid}/fd/1").readlink()
            if process.name() == "worker" and log.is_relative_to(output):
                found.append(process)
    return found
