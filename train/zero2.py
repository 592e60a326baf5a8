"""DeepSpeed ZeRO stage 2: what it is told, what it needs, and the proof that it is really there.

The trainer library falls back to plain data-parallel training, without a word, when it does not get a DeepSpeed
configuration. So the configuration is passed as a value, never as a file name, and the wrapped model's class is
checked before the first step.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from ..base.locks import exclusive

ENGINE_CLASS = "deepspeed.runtime.engine.DeepSpeedEngine"
_EXTENSION = "deepspeed_shm_comm"


def zero2_config(width: int | None = None) -> dict[str, Any]:
    """Return the stage-2 configuration of the published recipe; "auto" is filled in from the training arguments.

    `width` is the model's, for one whose config does not state it as `hidden_size`.
    """
    return {
        "zero_optimization": {
            "stage": 2,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "sub_group_size": int(1e9),
            "reduce_bucket_size": width * width if width else "auto",
        },
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
    }


def require_engine(wrapped_model: object, zero_stage: int) -> str:
    """Return the class of the wrapped model. Raises PrefmillError when stage 2 was asked for and is not in use."""
    kind = type(wrapped_model)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if zero_stage and name != ENGINE_CLASS:
        raise PrefmillError(
            f"zero_stage is {zero_stage}, but the model would be trained by {name} instead of DeepSpeed's engine",
            "install the tested versions (pip install -c constraints.txt deepspeed accelerate), or set zero_stage=0",
        )
    return name


def extensions_folder() -> Path:
    """Return where DeepSpeed's compiled extension is kept: a folder that nothing but Prefmill builds in.

    It names its environment's headers, so that another environment, which finds it, compiles it anew: each has its own.
    """
    if given := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return Path(given)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "prefmill" / "torch-extensions" / hashlib.sha256(sys.prefix.encode()).hexdigest()[:12]


def is_extension_built() -> bool:
    """Return whether an earlier training has compiled the extension that DeepSpeed needs on a CPU."""
    return (extensions_folder() / _EXTENSION / f"{_EXTENSION}.so").exists()


def require_compiler() -> None:
    """Raise PrefmillError when DeepSpeed would have to compile its extension and there is no C++ compiler."""
    if is_extension_built():
        return
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    if not any(shutil.which(name) for name in wanted):
        raise PrefmillError(
            f"DeepSpeed compiles an extension for CPU training, and there is no C++ compiler ({', '.join(wanted)})",
            "install one (apt-get install g++), or train without DeepSpeed: zero_stage=0",
        )


def build_extension() -> None:
    """Compile and load the extension that DeepSpeed's CPU backend needs: about a minute once, then a moment.

    A build that was killed leaves a lock file, for which every later build would wait for ever. Here builders take
    turns under a lock that dies with its holder, so a lock file found is always a dead one's, and is removed.
    """
    from deepspeed.ops.op_builder import ShareMemCommBuilder  # type: ignore[attr-defined]  # made at import

    folder = extensions_folder()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TORCH_EXTENSIONS_DIR"] = str(folder)  # where DeepSpeed puts what it compiles
    with exclusive(folder / ".building"):
        (folder / _EXTENSION / "lock").unlink(missing_ok=True)
        try:
            ShareMemCommBuilder().load()
        except Exception as error:  # a compiler can fail in any way; its own words are in the log
            raise PrefmillError(
                "DeepSpeed's extension for CPU training did not compile; the compiler's words are in train.log",
                "install a working C++ compiler (apt-get install g++), or train without DeepSpeed: zero_stage=0",
            ) from error
