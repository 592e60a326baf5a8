"""Which interpreter runs vLLM, and in which version.

vLLM pins torch, transformers and more to releases of its own, so it never shares our environment: PREFMILL_VLLM_PYTHON
names the interpreter that has it.
"""

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from ....base.errors import PrefmillError

VARIABLE = "PREFMILL_VLLM_PYTHON"
WORKER = Path(__file__).with_name("worker.py")
_OLDEST = (0, 22)
_SECONDS = 120.0
_OUR_MODULES = ("PYTHONPATH", "PYTHONHOME")


def interpreter() -> str:
    """Return the path of the interpreter that has vLLM. Raises PrefmillError where none is named or none is there."""
    named = os.environ.get(VARIABLE, "")
    if not named:
        raise PrefmillError(
            f"the backend vllm runs in an interpreter of its own, and {VARIABLE} names none.",
            f"python3 -m venv vllm-env && vllm-env/bin/pip install vllm && export {VARIABLE}=$PWD/vllm-env/bin/python",
        )
    found = shutil.which(Path(named).expanduser())
    if found is None:
        raise PrefmillError(
            f"{VARIABLE} is {named!r}, where no program is.", f"export {VARIABLE}=FOLDER/bin/python, with vLLM in it"
        )
    return str(Path(found).absolute())  # as it is named: a virtual environment's python is a link


def runtime() -> str:
    """Return `vllm-VERSION`, as the interpreter tells it. Raises PrefmillError where it has none, or one too old."""
    return f"vllm-{_version(interpreter())}"


def environment(**settings: str) -> dict[str, str]:
    """Return the variables for a program of that interpreter: ours, without those that say where modules are."""
    return {name: value for name, value in os.environ.items() if name not in _OUR_MODULES} | settings


@cache
def _version(python: str) -> str:
    command = [python, str(WORKER), "--version"]
    install = f"{python} -m pip install 'vllm>={_OLDEST[0]}.{_OLDEST[1]}'"
    try:
        run = subprocess.run(
            command, capture_output=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL, env=environment()
        )
        told = json.loads((run.stdout.splitlines() or [b""])[-1])
        version = told["vllm"]
    except (OSError, subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as error:
        raise PrefmillError(
            f"{VARIABLE}={python} does not run as a Python interpreter ({type(error).__name__}).",
            f"export {VARIABLE}=FOLDER/bin/python, with vLLM in it",
        ) from error
    if version is None:
        raise PrefmillError(f"{VARIABLE}={python} has no vLLM.", install)
    numbers = tuple(map(int, re.findall(r"\d+", str(version))[:2]))
    if numbers < _OLDEST:
        raise PrefmillError(
            f"{VARIABLE}={python} has vLLM {version}; {_OLDEST[0]}.{_OLDEST[1]} or newer is needed.", install
        )
    return str(version)
