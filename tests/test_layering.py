"""The house rules, held by reading every file: who may import whom, file length, and how packages are found."""

import ast
import inspect
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "base": set(),
    "kernels": set(),
    "engine": {"base", "kernels"},
    "micro": {"base", "engine"},
    "compile": {"base", "engine", "kernels"},
    "pipeline": {"base", "engine"},
    "train": {"base", "engine", "kernels", "pipeline.records", "pipeline.store"},
    "recipes": {"base", "engine", "micro", "compile", "pipeline", "train"},
    "bench": {"base", "kernels", "engine", "micro", "compile", "pipeline", "train", "recipes"},
    "cli": {"base", "kernels", "engine", "micro", "compile", "pipeline", "train", "recipes", "bench"},
}
SOURCES = sorted(path for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py"))
ALL = SOURCES + sorted((ROOT / "tests").rglob("*.py"))


def module_of(path: Path) -> list[str]:
    return list(path.relative_to(ROOT).with_suffix("").parts)


@dataclass
class Facts:
    """What the rules look at in a file."""

    lines: int
    docstring: str | None
    imports: set[str] = field(default_factory=set)
    """The project's own modules, as `folder.module`, lazy imports included."""
    classes: list[str] = field(default_factory=list)
    called: set[str | None] = field(default_factory=set)
    forbidden: set[str] = field(default_factory=set)


@cache
def facts_of(path: Path) -> Facts:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    found = Facts(len(text.splitlines()), ast.get_docstring(tree) if text.strip() else "nothing")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found.imports |= imported_from(node, path)
            if any(name.name == "*" for name in node.names):
                found.forbidden.add("star import")
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
            found.imports |= {name.removeprefix("prefmill.") for name in names if name.startswith("prefmill.")}
        elif isinstance(node, ast.ClassDef):
            found.classes.append(node.name)
        elif isinstance(node, ast.Call):
            found.called.add(node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", None))
        elif isinstance(node, ast.Attribute) and node.attr == "path" and ast.unparse(node.value) == "sys":
            found.forbidden.add("sys.path edited")
    return found


def imported_from(node: ast.ImportFrom, path: Path) -> set[str]:
    if node.level:
        base = module_of(path)[: -node.level]
        target = [*base, *(node.module or "").split(".")] if node.module else base
        names = [".".join(target)] if node.module else [".".join([*target, name.name]) for name in node.names]
        return {name for name in names if name}
    module = node.module or ""
    return {module.removeprefix("prefmill.")} if module.split(".")[0] == "prefmill" else set()


def test_imports_point_down():
    wrong = []
    for path in SOURCES:
        folder = module_of(path)[0]
        allowed = MAY_IMPORT[folder] | {folder}
        for target in facts_of(path).imports:
            if not any(target == rule or target.startswith(rule + ".") for rule in allowed):
                wrong.append(f"{path} imports {target}")
    assert not wrong


def test_import_table_reads_real_imports():
    """The reader above finds what it should: a rule that sees nothing would hold forever."""
    assert "base.errors" in facts_of(ROOT / "pipeline" / "store.py").imports
    assert "engine.images" in facts_of(ROOT / "pipeline" / "stages" / "score.py").imports
    assert "pipeline.store" in facts_of(ROOT / "cli" / "show.py").imports


def test_file_rules(tmp_path):
    """No more than 300 lines (one idea, one file), no star imports, no edits of sys.path; sources say what they are."""
    assert not {str(path): facts_of(path).lines for path in ALL if facts_of(path).lines > 300}
    assert not {str(path): facts_of(path).forbidden for path in ALL if facts_of(path).forbidden}
    assert not [str(path) for path in SOURCES if not facts_of(path).docstring]
    (tmp_path / "bad.py").write_text("import sys\nfrom os import *\nsys.path.append('x')\n")
    assert facts_of(tmp_path / "bad.py").forbidden == {"star import", "sys.path edited"}
    assert facts_of(tmp_path / "bad.py").docstring is None


def kernel_functions() -> dict[str, set[str]]:
    """Operation to the names of its public functions."""
    from prefmill.kernels.catalogue import OPS

    return {op.name: {function.__name__ for function in (op.public, *op.variants)} for op in OPS}


def test_every_public_kernel_function_belongs_to_an_operation():
    import importlib

    known = set().union(*kernel_functions().values())
    for folder in sorted((ROOT / "kernels").glob("*/__init__.py")):
        module = importlib.import_module(f"prefmill.kernels.{folder.parent.name}")
        functions = {name for name in module.__all__ if inspect.isfunction(getattr(module, name))}
        # references are compared with, checks are for whoever makes the inputs
        public = {name for name in functions if not name.endswith("_reference") and not name.startswith("check_")}
        assert public
        assert public <= known, f"{sorted(public - known)} are in no OP"


def test_every_operation_has_a_caller():
    """In the product: tests, benchmarks and the kernels themselves do not count."""
    callers = [path for path in SOURCES if module_of(path)[0] not in {"bench", "kernels"}]
    called = set().union(*(facts_of(path).called for path in callers))
    for name, functions in kernel_functions().items():
        assert functions & called, f"nothing calls {name}: {sorted(functions)}"


def test_no_class_has_the_name_of_another():
    places: dict[str, list[str]] = {}
    for path in SOURCES:
        for name in facts_of(path).classes:
            if not name.startswith("_"):
                places.setdefault(name, []).append("/".join(module_of(path)))
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert not twice


def test_folders_carry_no_init_file():
    for folder in MAY_IMPORT:
        assert not (ROOT / folder / "__init__.py").exists(), f"{folder}/__init__.py would shadow a foreign package"


def test_every_folder_with_modules_is_packaged():
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {".".join(["prefmill", *module_of(path)[:-1]]) for path in SOURCES}
    assert folders <= set(packaged)


PROBE = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module("prefmill." + name)
import transformers.integrations, kernels
print(kernels.MARK)
"""


@pytest.mark.parametrize("directory", ["root", "elsewhere"])
def test_imports_beside_hugging_face_kernels(directory, tmp_path):
    """A foreign `kernels` package stays visible under its own name, and ours under prefmill.kernels.

    That ours imports without theirs show all other tests, and from elsewhere those of the documents' examples.
    """
    package = tmp_path / "site" / "kernels"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("MARK = 'theirs'\n")
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    modules = ["kernels", "base.errors", "pipeline.store", "cli.main", "train.launch"]
    result = subprocess.run(
        [sys.executable, "-c", PROBE, *modules],
        cwd=ROOT if directory == "root" else tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "theirs"


MICRO_ORDER = ("world", "teach", "measure")
"""The micro world's folders: each may import those before it."""


def import_graph(root: Path, paths: list[Path]) -> dict[str, set[str]]:
    """Which of the files imports which when it runs, as dotted names: lazy imports count, those for types do not."""
    names = {".".join(path.relative_to(root).with_suffix("").parts) for path in paths}
    return {
        name: {target for target in _targets(name, root) if target in names} - {name.removesuffix(".__init__")}
        for name in sorted(names)
    }


def _targets(name: str, root: Path) -> set[str]:
    tree = ast.parse((root / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for part in node.body
        for inner in ast.walk(part)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("prefmill.") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: -node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])]).removeprefix("prefmill.")
            found |= {module, f"{module}.__init__", *(f"{module}.{alias.name}" for alias in node.names)}
    return found


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return import_graph(ROOT, SOURCES)


def circle_of(graph: dict[str, set[str]]) -> list[str]:
    """The files of one circle of imports, none where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_file_imports_itself_through_others(graph):
    assert circle_of(graph) == []


def test_no_two_folders_import_each_other(graph):
    """A folder and one inside it may: a catalogue lists what is in the sub-folders, which read its declarations."""
    edges = {
        (source.rpartition(".")[0], target.rpartition(".")[0])
        for source, targets in graph.items()
        for target in targets
    }
    mutual = {(one, other) for one, other in edges if one < other and (other, one) in edges}
    assert {(one, other) for one, other in mutual if not other.startswith(f"{one}.")} == set()
    places = {f"micro.{name}": place for place, name in enumerate(MICRO_ORDER)}
    assert [edge for edge in edges if places.get(edge[0], 9) < places.get(edge[1], -1)] == []


def test_circles_through_lazy_imports_are_seen_and_imports_for_types_are_not(tmp_path):
    texts = {
        "one": "def late():\n    from . import two\n",
        "two": "from .three import name\n",
        "three": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .one import late\n",
    }
    (tmp_path / "top").mkdir()
    paths = [tmp_path / "top" / f"{name}.py" for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    graph = import_graph(tmp_path, paths)
    assert graph == {"top.one": {"top.two"}, "top.two": {"top.three"}, "top.three": set()}
    assert circle_of(graph) == []
    paths[2].write_text("def late():\n    import prefmill.top.one\n")
    assert set(circle_of(import_graph(tmp_path, paths))) == {"top.one", "top.two", "top.three"}
