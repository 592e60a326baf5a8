"""The C++ compiler that torch's compilers call on a CPU: looked for before minutes are spent on a graph."""

import os
import shlex
import shutil
import sys

from ...base.errors import PrefmillError


def require_cpp_compiler() -> None:
    """Raise PrefmillError, naming what installs one, where the compiler of $CXX or the usual one cannot be found."""
    named = os.environ.get("CXX")
    command = shlex.split(named)[0] if named and named.strip() else "clang++" if sys.platform == "darwin" else "g++"
    if shutil.which(command) is None:
        install = "xcode-select --install" if sys.platform == "darwin" else "apt install g++"
        raise PrefmillError(
            f"there is no C++ compiler: {command}{' of $CXX' if named else ''} is not in PATH.",
            f"{install}, or export CXX=PATH_OF_A_COMPILER, or --set engine.backend=onnxruntime, which needs none",
        )
