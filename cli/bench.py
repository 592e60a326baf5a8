"""`prefmill bench`: one benchmark by name, with its own options."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer

from ..base.errors import PrefmillError

BENCHES = (
    *("engines", "executors", "faults", "generator_tuning", "kernels", "planning", "responders", "reward", "scaling"),
    *("scorers", "sd3_device", "servers", "synthesis", "train", "viewer"),
)
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Options are the benchmark's own, `--help` too."""


def bench_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"{', '.join(BENCHES)}; see `prefmill bench NAME --help`")],
) -> None:
    """Measure against references and peers; the last line of output is one JSON object."""
    if name not in BENCHES:
        raise PrefmillError(f"there is no benchmark {name!r}", f"choose one of {', '.join(BENCHES)}")
    sys.argv = [f"prefmill bench {name}", *context.args]
    import_module(f"..bench.{name}", __package__).main()
