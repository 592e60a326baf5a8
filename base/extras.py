"""Packages that come with an extra of ours: looked for where something needs them, and named with their extra."""

from __future__ import annotations

from importlib.util import find_spec

from .errors import PrefmillError

TRAIN = ("trl", "peft", "accelerate", "deepspeed")
"""What `prefmill[train]` brings; scoring, running, judging and exporting do without."""


def require_train_extra(what: str, packages: tuple[str, ...] = TRAIN) -> None:
    """Raise PrefmillError where one of the packages is missing that `what` needs. Imports none of them."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise PrefmillError(
            f"{what} needs {', '.join(missing)}, which only the extra `train` installs",
            "pip install 'prefmill[train]' (from a checkout: pip install -c constraints.txt -e '.[train]')",
        )
