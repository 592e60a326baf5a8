"""One process of a training, started by the launcher; where there are several, through torch.distributed.run.

    python -m prefmill.train.worker OUTPUT

Everything it needs to know is in OUTPUT/training.json. A mistake of the user's goes into a file, from where the
launcher shows it; everything else ends in train.log with its traceback.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sys
import threading
import time
import traceback
from pathlib import Path

from ..base.errors import PrefmillError
from ..base.files import copy_folder, write_text
from ..base.versions import package_versions
from ..engine.responders.adapter import CONFIG, WEIGHTS, check_files
from .backends import backend_named
from .checkpoints import CHECKPOINTS, newest_complete
from .curves import write_curves
from .events import LAUNCHER_LOCK, LOG, STATUS, write_failure
from .job import TrainingJob
from .manifest import (
    ADAPTER,
    MANIFEST,
    PLAN,
    AdapterManifest,
    TrainingPlan,
    read_plan,
    stages_of,
    summarize,
    write,
)
from .nodes import own_of_worker
from .zero2 import build_extension, is_extension_built, require_compiler

_STARTED = time.monotonic()


def main() -> None:
    """Run the worker; exits with 1 on any error, after writing what the launcher shall say about it."""
    output = Path(sys.argv[1])
    lock = output / own_of_worker(LAUNCHER_LOCK)
    threading.Thread(target=_end_with_launcher, args=(lock,), daemon=True).start()
    try:
        _work(output)
    except Exception as error:  # the process boundary: whatever it was, it has to reach the user
        traceback.print_exc()
        known = error if isinstance(error, PrefmillError) else _explain(error, output)
        with contextlib.suppress(PrefmillError):  # on a full disk; the launcher then points at the log
            write_failure(output, _rank(), known)
        sys.stderr.flush()
        os._exit(1)  # a normal exit would wait for processes that wait for this one


def _work(output: Path) -> None:
    from .weights_only import weights_only

    plan = read_plan(output)
    if plan is None:
        raise PrefmillError(f"{output} has no {PLAN}", "start trainings with `prefmill train`")
    job, excluded = _prepare(plan, output)
    model_key = _base_model_key(plan, job, output) if _rank() == 0 else ""
    _say(output, "loading the model")
    with weights_only(job.checkpoints, deepspeed=plan.config.zero_stage > 0):
        backend_named(plan.config.backend)(job)
    if _rank() == 0:
        _finish(plan, job, excluded, model_key)


def _prepare(plan: TrainingPlan, output: Path) -> tuple[TrainingJob, dict[str, list[str]]]:
    import torch

    from ..engine.sources import resolve_checkpoint
    from .inputs import read_inputs

    config = plan.config
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cuda" and gpus < config.processes:
        raise PrefmillError(
            f"{config.processes} process(es) on cuda need as many GPUs, and torch sees {gpus}",
            f"set processes={gpus}" if gpus else "set device=cpu",
        )
    if config.zero_stage and device == "cpu":
        require_compiler()
        if not is_extension_built():
            _say(output, "compiling DeepSpeed's extension for CPU training (once, about a minute)")
        build_extension()
    folder = resolve_checkpoint(config.model)
    read = read_inputs(config, Path(plan.run), folder)
    precision = config.precision
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" else "float32"
    resume = newest_complete(output / CHECKPOINTS)
    if resume:
        resume.require_same(device=device, precision=precision)
    given = (config, folder, read.collator, read.pairs, read.images, output, resume, device, precision, _STARTED)
    return TrainingJob(*given, read.held_out), read.excluded


def _base_model_key(plan: TrainingPlan, job: TrainingJob, output: Path) -> str:
    from ..engine.checkpoint import checkpoint_key

    _say(output, "reading the model's weights")
    now = plan.model_copy(update={"model_key": checkpoint_key(job.model_folder)})
    now.require_same(plan, output)
    write(output / PLAN, now)
    return str(now.model_key)


def _finish(plan: TrainingPlan, job: TrainingJob, excluded: dict[str, list[str]], model_key: str) -> None:
    from ..engine.device import hardware_description
    from ..pipeline.store import Run
    from .data import pairs_digest

    last = newest_complete(job.checkpoints)
    if last is None or not last.is_last:
        raise PrefmillError(f"{job.checkpoints} lacks the last checkpoint", "give the same command again: it continues")
    digests = {name: last.record.files[name].sha256 for name in (WEIGHTS, CONFIG)}
    copy_folder([last.path / name for name in digests], job.output / ADAPTER)
    check_files(job.output / ADAPTER, digests, "check the disk, then give the same command again: it copies it anew")
    lines = job.metrics.read()
    backend = last.notes.backend
    if undrawn := write_curves(job.output):
        _say(job.output, undrawn)
        backend = backend.model_copy(update={"notes": (*backend.notes, undrawn)})
    manifest = AdapterManifest(
        adapter_sha256=digests[WEIGHTS],
        adapter_config_sha256=digests[CONFIG],
        base_model=plan.config.model,
        base_model_key=model_key,
        run=plan.run,
        stages=stages_of(Run(Path(plan.run))),
        pairs=len(job.pairs),
        pairs_digest=pairs_digest(job.pairs),
        held_out=len(job.held_out),
        held_out_digest=pairs_digest(job.held_out) if job.held_out else None,
        excluded=excluded,
        config=plan.config,
        backend=backend,
        steps=last.step,
        loss=summarize(lines),
        seconds=round(last.notes.seconds, 3),
        device_seconds=round(
            sum(line["seconds"] + line.get("eval_seconds", 0) for line in lines) * backend.processes, 3
        ),
        versions=package_versions(),
        hardware=hardware_description(),
    )
    write(job.output / MANIFEST, manifest)
    shutil.rmtree(job.checkpoints, ignore_errors=True)  # optimizer states, several times the adapter's size
    if plan.config.cache is None:
        shutil.rmtree(job.cache, ignore_errors=True)


def _explain(error: Exception, output: Path) -> PrefmillError:
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return PrefmillError(
            f"the GPU's memory is not enough ({str(error).splitlines()[0]})",
            "set gradient_checkpointing=true, lower batch_size or max_tokens, or use more processes",
        )
    if _is_full(error, output):
        return PrefmillError(
            f"the disk of {output} is full ({type(error).__name__})",
            "make room; the same command continues from the newest checkpoint",
        )
    first_line = next(iter(str(error).splitlines()), "")
    return PrefmillError(
        f"training stopped: {type(error).__name__}: {first_line}",
        f"see the end of {output / LOG}; the same command continues from the newest checkpoint",
    )


def _is_full(error: BaseException | None, output: Path) -> bool:
    """Some libraries have words of their own for a full disk, or say no more than that they could not write."""
    while error:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            return True
        if "No space left on device" in str(error) or "inline_container" in str(error):  # torch.save
            return True
        error = error.__cause__ or error.__context__
    return shutil.disk_usage(output).free < 2**20


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _say(output: Path, text: str) -> None:
    if _rank() == 0:
        write_text(output / STATUS, text)


def _end_with_launcher(lock: Path) -> None:
    """A launcher that was killed cannot stop its workers; but the lock it holds is free then."""
    with lock.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                time.sleep(0.5)
            else:
                os._exit(1)


if __name__ == "__main__":
    main()
