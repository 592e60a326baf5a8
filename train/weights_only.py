"""Reading a checkpoint runs none of its content.

A pickle names functions that are called while it is read. The trainer library reads its files with
`weights_only=True`, where only tensors and plain values pass; DeepSpeed asks for the opposite, so that continuing a
training that somebody handed over would run whatever its files say. torch has a switch that overrules the caller;
with it come the three classes of DeepSpeed's own that its files hold: a flag, a pair of numbers and a constant.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..base.errors import PrefmillError

_FORCE, _FORBID = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextlib.contextmanager
def weights_only(checkpoints: Path, *, deepspeed: bool) -> Iterator[None]:
    """Have every torch.load in the block take nothing but tensors and plain values, whatever its caller asks for.

    `deepspeed` says whether DeepSpeed, which need not be installed otherwise, is among them. Raises PrefmillError,
    which names the folder `checkpoints`, where a file holds anything else.
    """
    before = {name: os.environ.pop(name, None) for name in (_FORCE, _FORBID)}
    os.environ[_FORCE] = "1"
    try:
        with torch.serialization.safe_globals(_deepspeed_classes() if deepspeed else []):
            yield
    except pickle.UnpicklingError as error:
        found = re.search(r"nsupported (?:global: )?GLOBAL ([\w.]+)", str(error))
        what = f" ({found[1]})" if found else ""
        raise PrefmillError(
            f"a checkpoint in {checkpoints} holds more than weights and numbers{what}; nothing of it was run",
            f"delete {checkpoints} and give the same command again: the training starts from the beginning",
        ) from error
    finally:
        os.environ.pop(_FORCE)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _deepspeed_classes() -> list[Any]:
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    return [LossScaler, ZeroStageEnum, fragment_address]
