"""Whether the commands of `bench/gpu.sh` parse, without a GPU: reads its parts from stdin, one a line.

A command's arguments must be those of its own parser: it is called with `--help` at their end, which comes after their
types and choices were checked, and every option must stand in what that prints. Its `--set` must be settings of what it
names: a recipe, the training of an image reward, a tuning.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

from ..base.errors import PrefmillError


def problem(arguments: list[str], main: Callable[[], None]) -> str:
    """What is wrong with the arguments of the program `main`; empty where nothing is."""
    printed = io.StringIO()
    before, sys.argv = sys.argv, ["prefmill", *arguments, "--help"]
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "200"  # no option's name is cut
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            main()
    except SystemExit as end:
        if end.code:
            return " ".join(printed.getvalue().split())[-300:]
    finally:
        sys.argv = before
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width
    known = set(re.findall(r"--[a-z][a-z-]*", printed.getvalue()))
    unknown = [word for word in arguments if word.startswith("--") and word not in known]
    return f"unknown {', '.join(unknown)}" if unknown else ""


def unsettable(arguments: list[str]) -> str:
    """What is wrong with the values of `--set` in `run RECIPE` and `train reward|generator`; empty where nothing is."""
    from ..recipes.catalogue import load_recipe
    from ..recipes.generator_tuning import TUNINGS
    from ..recipes.micro_reward import micro_reward
    from ..recipes.settings import override

    pairs = list(pairwise(arguments))
    given = [value for option, value in pairs if option == "--set"]
    tuning = next((TUNINGS[value] for option, value in pairs if option == "--tuning"), None)
    try:
        if arguments[0] == "run":
            override(load_recipe(arguments[1]), given)
        elif arguments[:2] == ["train", "reward"]:
            override(micro_reward(), given)
        elif tuning is not None:
            override(tuning(), given)
    except PrefmillError as error:
        return error.message
    return ""


def problems(parts: Iterable[str], main: Callable[[], None]) -> list[str]:
    """What is wrong with the parts, each a line `name|seconds|needs|command`; `main` is the command line's."""
    found = []
    for line in parts:
        name, _, _, command = line.split("|")
        _, module, *arguments = command.split()
        if module == "pytest":
            wrong = "" if Path(arguments[0]).is_dir() else f"{arguments[0]} is no folder"
        else:
            wrong = problem(arguments, main) or unsettable(arguments)
        if wrong:
            found.append(f"{name} does not parse: {wrong}")
    return found


def main() -> int:
    """Say what does not parse; 1 where something does not."""
    from importlib import import_module

    prefmill = import_module("prefmill.cli.main").main  # by name: what is checked is the command, from below it

    found = problems(sys.stdin.read().splitlines(), prefmill)
    for wrong in found:
        print(f"error: {wrong}", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
