"""Libraries that a setting asks for and that do not come with the package: looked for before anything is loaded."""

from __future__ import annotations

from importlib.util import find_spec

from ..base.errors import PrefmillError
from ..base.extras import require_train_extra
from .launch_settings import LaunchSettings


def require_libraries(config: LaunchSettings) -> None:
    """Raise PrefmillError, with the command that installs it, where a library is missing. Imports none of them."""
    require_train_extra("a training")
    for setting, package in config.libraries.items():
        if find_spec(package) is None:
            raise PrefmillError(
                f"{setting} needs {package}, which is not installed",
                f"pip install {package}, or leave {setting.partition('=')[0]} out",
            )
