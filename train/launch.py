"""Start a training, follow it, and hand back what it made: the part of training a command line talks to.

Imports nothing heavy. The workers import torch; this process only starts them, through torch.distributed.run where
there are several, reads the lines they write, and sees to it that none of them outlives it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..base.errors import PrefmillError
from ..base.files import remove, remove_leftovers
from ..base.locks import exclusive
from .checkpoints import CHECKPOINTS, Checkpoint, newest_complete, newest_intact
from .curves import Panels, write_curves
from .events import FAILURES, LAUNCHER_LOCK, LOG, METRICS, STATUS, MetricsFile, TrainingEvent, read_failure
from .extras import require_libraries
from .launch_settings import LaunchSettings
from .manifest import MANIFEST, PLAN, FinishedTraining, TrainingPlan, read_finished, read_plan, write
from .nodes import ALONE, MEETING_SECONDS, Node, this_node
from .tracking import tracking_environment
from .zero2 import extensions_folder

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 15.0
_BUSY_SECONDS = 10.0  # workers of a launcher that was killed need a moment to notice

_SHARED_SECONDS = 60.0  # network file systems remember for a while that a file was not there

Content = TypeVar("Content")
OnEvent = Callable[[TrainingEvent], None]


@dataclass(frozen=True)
class TrainingKind:
    """What the launcher has to know of a kind of training. What its workers do is in `work.py`."""

    name: str
    plan: type[TrainingPlan[Any]]
    manifest: type[FinishedTraining]
    product: str
    """The folder below the output that holds what was trained."""
    check: Callable[[Path], None]
    """Raises PrefmillError where that folder is not what its manifest says."""
    panels: Panels
    """The curves that are drawn of it."""


def launch(
    kind: TrainingKind, plan: TrainingPlan[Any], output: Path, on_event: OnEvent = lambda event: None
) -> FinishedTraining:
    """Train what the plan says, or continue a training that was stopped; return its manifest, of the kind's type.

    `output` holds, at the end, the product's folder, manifest.json, metrics.jsonl, curves.png and train.log.
    A finished output is recognised and left alone. Ctrl-C stops the workers and raises KeyboardInterrupt; the same call
    continues. Raises PrefmillError for everything a user can repair, and for workers that failed.
    """
    config = plan.config
    node, output = this_node(config), output.absolute()
    with _alone_in(output, node) as lock:
        before = _begun(kind, plan, output, node)
        if finished := read_finished(output, kind.manifest):
            kind.check(output)
            if node.is_first:
                remove(output / CHECKPOINTS)  # a kill after the last step may have left them
            on_event(TrainingEvent("finished", f"{output} is already trained; nothing to do", finished.steps))
            return finished
        require_libraries(config)
        training, processes = _Training(output, lock, on_event, node, kind.panels), config.processes
        if node.is_first:
            plan = plan.model_copy(update={"model_key": before.model_key if before else None})
            resume = _prepare(plan, output, on_event)
            processes = 1 if resume and resume.is_last and node.count == 1 else processes
        else:
            on_event(TrainingEvent("notice", f"node {node.rank} of {node.count}: the first one tells how it goes"))
        training.follow(training.start(plan, processes))
        manifest = _written(partial(read_finished, kind=kind.manifest), output, node, _SHARED_SECONDS)
    if manifest is None:
        raise PrefmillError(f"training ended without {output / MANIFEST}", f"see the end of {output / LOG}")
    on_event(
        TrainingEvent("finished", f"{kind.product} written to {output / kind.product}", manifest.steps, manifest.steps)
    )
    return manifest


def require_apart(output: Path, run_folder: Path) -> None:
    """Refuse a folder that the run needs for itself: its own, and those of its stages."""
    from ..pipeline.store import Run

    own = [run_folder.resolve(), *(run_folder.resolve() / name for name in Run.open(run_folder).stages())]
    place = output.resolve()
    if place == own[0] or any(place.is_relative_to(stage) for stage in own[1:]):
        raise PrefmillError(
            f"{output} is where the run {run_folder} keeps its rows",
            f"choose a folder of its own, such as {run_folder / 'training'}",
        )


def _written(read: Callable[[Path], Content | None], output: Path, node: Node, seconds: float) -> Content | None:
    """Return what node 0 writes; the others wait for it, and for their file system to show it."""
    deadline = time.monotonic() + seconds
    while (found := read(output)) is None and not node.is_first and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return found


def _begun(kind: TrainingKind, plan: TrainingPlan[Any], output: Path, node: Node) -> TrainingPlan[Any] | None:
    """Return what the folder was begun with, leftovers of a kill cleared. Refuses the folders of others."""
    before = _written(partial(read_plan, kind=kind.plan), output, node, MEETING_SECONDS)
    if before is None and not node.is_first:
        raise PrefmillError(
            f"node 0 has not begun a training in {output}",
            "give it the same command with NODE_RANK=0, and check that all nodes share the folder",
        )
    if before:
        plan.require_same(before, output)
        if node.is_first:
            remove_leftovers(output)
        return before
    foreign = [name for name in (kind.product, CHECKPOINTS, MANIFEST, METRICS) if (output / name).exists()]
    if foreign:  # what lies there would be taken for a training's own, and be removed or overwritten
        raise PrefmillError(
            f"{output} holds {', '.join(foreign)} and no {PLAN}: it was not begun by this command",
            "choose another output folder, or move these away",
        )
    return None


def _prepare(plan: TrainingPlan[Any], output: Path, on_event: OnEvent) -> Checkpoint | None:
    """Write down what is begun, and return the checkpoint to continue from."""
    # written again when it is the same work, for the run's folder may have moved
    write(output / PLAN, plan)
    for leftover in (*output.glob(FAILURES.format(rank="*")), output / STATUS):
        remove(leftover)
    resume, removed = newest_intact(output / CHECKPOINTS)
    for text in removed:
        on_event(TrainingEvent("notice", text))
    step = resume.step if resume else 0
    MetricsFile(output / METRICS).forget_after(step)
    if resume:
        steps = resume.record.steps
        on_event(TrainingEvent("notice", f"continuing after step {step} of {steps}", step, steps))
    else:
        world = plan.config.world
        processes = "1 process" if world == 1 else f"{world} processes"
        on_event(TrainingEvent("notice", f"training on {plan.examples} {plan.unit} with {processes}"))
    return resume


@contextlib.contextmanager
def _alone_in(output: Path, node: Node) -> Iterator[int]:
    alive = output / node.own(LAUNCHER_LOCK)
    try:
        output.mkdir(parents=True, exist_ok=True)
        alive.touch()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise PrefmillError(f"cannot write to {output}: {reason}", "choose another output folder") from error
    busy = PrefmillError(
        f"{output} is being trained by another process", "wait for it to end, stop it, or choose another output folder"
    )
    with contextlib.ExitStack() as stack:
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                # this one passes on to the workers' starter, or to the worker
                lock = stack.enter_context(exclusive(output / node.own(".lock"), busy))
                # this one does not: by it the workers see this process die
                stack.enter_context(exclusive(alive, busy))
                break
            except PrefmillError:
                stack.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        yield lock


@dataclass
class _Training:
    """The running workers, seen from outside."""

    output: Path
    lock: int
    on_event: OnEvent
    node: Node
    panels: Panels
    status: str = ""
    step: int = 0

    def start(self, plan: TrainingPlan[Any], processes: int) -> subprocess.Popen[bytes]:
        self.metrics = MetricsFile(self.output / METRICS)
        self.metrics.skip()
        command = [sys.executable, "-m", "prefmill.train.worker", str(self.output)]
        environment = _environment(plan.config, processes, self.node) | tracking_environment(plan.config, self.output)
        if self.node.is_alone(processes):
            environment |= ALONE
        else:
            meeting = [f"--nproc-per-node={processes}", *self.node.arguments()]
            command[1:1] = ["-m", "torch.distributed.run", *meeting]
        with (self.output / self.node.own(LOG)).open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=[self.lock],
                start_new_session=True,  # Ctrl-C comes here, and from here to them
            )

    def follow(self, starter: subprocess.Popen[bytes]) -> None:
        try:
            while starter.poll() is None:
                self._relay()
                time.sleep(_POLL_SECONDS)
            self._relay()
        except BaseException:
            _stop(starter)
            self.step = max([self.step, *(event.step for event in self.metrics.follow())])
            saved = newest_complete(self.output / CHECKPOINTS)
            where = f"after step {saved.step}" if saved else "at the beginning"
            text = f"stopped at step {self.step}; the same command continues {where}"
            self.on_event(TrainingEvent("notice", text, self.step))
            self._draw()
            raise
        if starter.returncode:
            self._draw()
            raise self._failure(starter.returncode)

    def _draw(self) -> None:
        """Show how far it came. What stopped it is what the user has to hear of, not of a picture."""
        if self.node.is_first:
            with contextlib.suppress(PrefmillError):
                if undrawn := write_curves(self.output, self.panels):
                    self.on_event(TrainingEvent("notice", undrawn))

    def _relay(self) -> None:
        if not self.node.is_first:
            return
        with contextlib.suppress(FileNotFoundError):
            status = (self.output / STATUS).read_text(encoding="utf-8")
            if status != self.status:
                self.status = status
                self.on_event(TrainingEvent("notice", status))
        for event in self.metrics.follow():
            self.step = event.step
            self.on_event(event)

    def _failure(self, code: int) -> PrefmillError:
        reports = filter(None, map(read_failure, self.output.glob(FAILURES.format(rank="*"))))
        # the first to fail: the others fail because it is gone
        if first := min(reports, key=lambda report: report.time, default=None):
            return PrefmillError(first.message, first.fix)
        return PrefmillError(
            f"a training process was ended from outside (exit code {code}), most often for lack of memory",
            f"see the end of {self.output / self.node.own(LOG)}; the same command continues from the newest checkpoint",
        )


def _environment(config: LaunchSettings, processes: int, node: Node) -> dict[str, str]:
    # accelerate's own variables would silently change what is trained how
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    environment |= {
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_EXTENSIONS_DIR": str(extensions_folder()),
        # DeepSpeed calls `ninja`, which is installed beside the interpreter
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    if sys.platform == "linux" and node.is_local:
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host's own name may not resolve
    if config.device == "cpu":
        environment |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    return environment


def _stop(starter: subprocess.Popen[bytes]) -> None:
    """End the workers: a request first, which their starter passes on; then by force."""
    with contextlib.suppress(ProcessLookupError):
        starter.send_signal(signal.SIGTERM)
        try:
            starter.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            starter.kill()  # the workers see the launcher's lock free, or their starter gone, and end
            starter.wait()
