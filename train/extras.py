"""Libraries that a setting asks for and that do not come with the package: looked for before anything is loaded."""

from __future__ import annotations

from importlib.util import find_spec

from ..base.errors import PrefmillError
from .settings import DPOTrainingConfig


def require_libraries(config: DPOTrainingConfig) -> None:
    """Raise PrefmillError, with the command that installs it, where a library is missing. Imports none of them."""
    wanted = {f"report_to={name}": name for name in config.report_to}
    if config.base_bits:
        wanted[f"base_bits={config.base_bits}"] = "bitsandbytes"
    for setting, package in wanted.items():
        if find_spec(package) is None:
            raise PrefmillError(
                f"{setting} needs {package}, which is not installed",
                f"pip install {package}, or leave {setting.partition('=')[0]} out",
            )
