"""lmms-eval as a program of an interpreter of its own: it pins releases that are not ours.

PREFMILL_LMMS_PYTHON names the interpreter. Every task is a run of its own, so that a stopped evaluation goes on with
the task that it was at; its output is in TASK/log.txt, and its results stay where lmms-eval wrote them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ....base.errors import PrefmillError
from ....base.files import make_folder, read_text, remove, write_text
from ....base.progress import Progress
from ....engine.responders.vllm.interpreter import environment
from .tasks import LmmsResults, read_results

VARIABLE = "PREFMILL_LMMS_PYTHON"
COMMAND = "command.json"
LOG = "log.txt"
_INSTALL = (
    f"python3 -m venv lmms-env && lmms-env/bin/pip install lmms_eval && export {VARIABLE}=$PWD/lmms-env/bin/python"
)
_VERSION = "import importlib.metadata; print(importlib.metadata.version('lmms_eval'))"
_SECONDS = 120.0
_LAST_LINES = 8


@dataclass(frozen=True)
class LmmsRun:
    """What is run: the checkpoint, how lmms-eval loads it (`llava_hf`, `qwen2_5_vl`, ...), and its own arguments."""

    model: str
    kind: str = "llava_hf"
    arguments: tuple[str, ...] = ()
    batch_size: int = 1
    limit: int | None = None

    def command(self, task: str, output: Path) -> list[str]:
        """Return the arguments of lmms-eval for one task."""
        model = ",".join([f"pretrained={self.model}", *self.arguments])
        command = ["-m", "lmms_eval", "--model", self.kind, "--model_args", model, "--tasks", task]
        command += ["--batch_size", str(self.batch_size), "--output_path", str(output), "--log_samples"]
        return command + (["--limit", str(self.limit)] if self.limit is not None else [])


def interpreter() -> tuple[str, str]:
    """Return the interpreter that has lmms-eval, with its version. Raises PrefmillError where there is none."""
    named = os.environ.get(VARIABLE, "")
    if not named:
        raise PrefmillError(f"lmms-eval runs in an interpreter of its own, and {VARIABLE} names none.", _INSTALL)
    found = shutil.which(Path(named).expanduser())
    if found is None:
        raise PrefmillError(f"{VARIABLE} is {named!r}, where no program is.", _INSTALL)
    python = str(Path(found).absolute())
    try:
        told = subprocess.run(
            [python, "-c", _VERSION],
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PrefmillError(f"{VARIABLE}={python} does not run ({type(error).__name__}).", _INSTALL) from error
    if told.returncode:
        raise PrefmillError(f"{VARIABLE}={python} has no lmms_eval.", f"{python} -m pip install lmms_eval")
    return python, told.stdout.decode("utf-8", "replace").strip()


def run_tasks(run: LmmsRun, tasks: Sequence[str], folder: Path, progress: Progress) -> list[LmmsResults]:
    """Run tasks one after the other, those that are finished left as they are, and return their results.

    Raises PrefmillError, with the last lines of its output, where lmms-eval fails; and for a folder of another run.
    """
    python, version = interpreter()
    found = []
    progress.begin("lmms-eval", len(tasks), unit="tasks")
    for task in tasks:
        output = folder / task
        command = run.command(task, output)
        _check_same(output, [version, *command])
        if (results := _newest(output)) is None:
            make_folder(output)
            write_text(output / COMMAND, json.dumps([version, *command], indent=1) + "\n")
            _run([python, *command], output / LOG, task)
            results = _newest(output)
        if results is None:
            raise PrefmillError(f"lmms-eval ended without results of {task}.", f"see the end of {output / LOG}")
        found.append(read_results(results))
        progress.step("lmms-eval", 1)
    progress.end("lmms-eval", f"{len(tasks)} tasks by lmms-eval {version}")
    return found


def _check_same(output: Path, command: list[str]) -> None:
    fix = "choose another --to folder, or remove this one"
    text = read_text(output / COMMAND, fix)
    if text is not None and text.strip() != json.dumps(command, indent=1):
        raise PrefmillError(f"{output} holds results of another command.", fix)


def _newest(output: Path) -> Path | None:
    """The results of a finished run; the file's name begins with its date."""
    return max(output.rglob("*results.json"), key=lambda path: path.name, default=None)


def _run(command: Sequence[str], log: Path, task: str) -> None:
    remove(log)
    with log.open("wb") as out:
        try:
            process = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise PrefmillError(f"{command[0]} does not run: {error.strerror}.", _INSTALL) from error
        try:
            code = process.wait()
        except BaseException:  # Ctrl-C: nothing that it started outlives it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if code:
        last = " | ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:])
        raise PrefmillError(
            f"lmms-eval failed at {task} (exit code {code}): {last[-600:]}",
            f"see {log}, repair that and give the same command again: finished tasks are kept",
        )
