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
from .events import LAUNCHER_LOCK, LOG, write_failure
from .manifest import PLAN, kind_of
from .nodes import own_of_worker
from .work import work_of

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
    kind = kind_of(output)
    if kind is None:
        raise PrefmillError(f"{output} has no {PLAN}", "start trainings with `prefmill train`")
    work_of(kind)(output, _STARTED)


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
