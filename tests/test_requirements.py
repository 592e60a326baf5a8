"""What the package says it needs is what it imports, and the pinned set is one that the public index can give."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = [ROOT / name for name in PROJECT["tool"]["setuptools"]["package-dir"].values()]
# Imported by another package of the set, which does not ask for it by itself: transformers' Trainer; or by the name of
# a backend (engine/backends/tensorrt_library.py).
NEEDED_UNSEEN = {"accelerate", "tensorboard", "wandb", "tensorrt", "tensorrt-rtx"}
EXTRAS = ("bench", "quantized", "tracking", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", "ray", "objects", "view", "amber")
# Installed in a Python of its own: the package that a benchmark compares with; what vLLM, which has one, brings.
# And what drives a browser, for who measures the viewer.
PEERS = {"imagereward", "tqdm", "playwright"}


def normal(name):
    return re.split(r"[<>=!~\[; ]", name)[0].lower().replace("_", "-")


def declared():
    project = PROJECT["project"]
    extras = [each for name in EXTRAS for each in project["optional-dependencies"][name]]
    return {normal(each) for each in (*project["dependencies"], *extras)}


def imported():
    """Top-level names of other people's packages that the source folders import, lazy imports included."""
    found = set()
    for folder in FOLDERS:
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {name.name.split(".")[0] for name in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    found.add((node.module or "").split(".")[0])
    return found - set(sys.stdlib_module_names)


installed = cache(packages_distributions)  # reads every package that there is


def distributions(module):
    """The distributions that may bring a module; its own name where it is not installed here."""
    return {normal(name) for name in installed().get(module, [module])}


def test_every_import_is_declared():
    known = declared() | PEERS
    assert [name for name in sorted(imported()) if not distributions(name) & known] == []


def test_everything_declared_is_imported():
    used = set().union(*(distributions(name) for name in imported())) | NEEDED_UNSEEN
    assert sorted(declared() - used) == []


def test_triton_is_the_one_that_torch_asks_for():
    """The CPU wheel of torch names no Triton, the public one names exactly one: another pin installs here only."""
    pins = dict(
        line.strip().split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    asked_for = {"2.13.0": "3.7.1"}  # Requires-Dist of torch's Linux x86-64 wheels on the public index
    assert pins["triton"] == asked_for[pins["torch"]], "look it up: `make resolve` asks the public index itself"
