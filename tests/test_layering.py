"""The house rules, held by reading every file: who may import whom, file length, and how packages are found."""

import ast
import os
import subprocess
import sys
import tomllib
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
    "recipes": {"base", "engine", "micro", "pipeline", "train"},
    "bench": {"base", "kernels", "engine", "micro", "compile", "pipeline", "train", "recipes"},
    "cli": {"base", "kernels", "engine", "micro", "compile", "pipeline", "train", "recipes", "bench"},
}
SOURCES = sorted(path for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py"))
ALL = SOURCES + sorted((ROOT / "tests").rglob("*.py"))


def module_of(path: Path) -> list[str]:
    return list(path.relative_to(ROOT).with_suffix("").parts)


def imports_of(path: Path) -> set[str]:
    """The project's own modules that a file imports, as `folder.module`, lazy imports included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = module_of(path)[: -node.level]
            target = [*base, *(node.module or "").split(".")] if node.module else base
            names = [".".join(target)] if node.module else [".".join([*target, name.name]) for name in node.names]
            found |= {name for name in names if name}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "prefmill":
            found.add((node.module or "").removeprefix("prefmill."))
        elif isinstance(node, ast.Import):
            found |= {name.name.removeprefix("prefmill.") for name in node.names if name.name.startswith("prefmill.")}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: "/".join(module_of(path)))
def test_imports_point_down(path):
    folder = module_of(path)[0]
    for target in imports_of(path):
        allowed = MAY_IMPORT[folder] | {folder}
        assert any(target == rule or target.startswith(rule + ".") for rule in allowed), f"{path} imports {target}"


def test_import_table_reads_real_imports():
    """The reader above finds what it should: a rule that sees nothing would hold forever."""
    assert "base.errors" in imports_of(ROOT / "pipeline" / "store.py")
    assert "engine.images" in imports_of(ROOT / "pipeline" / "stages" / "score.py")
    assert "pipeline.store" in imports_of(ROOT / "cli" / "show.py")


@pytest.mark.parametrize("path", ALL, ids=lambda path: "/".join(module_of(path)))
def test_file_rules(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 300, "over 300 lines: one idea, one file"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert all(name.name != "*" for name in node.names), "star import"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("sys", "path"), "sys.path edited"
    if path in SOURCES and text.strip():
        assert ast.get_docstring(tree), "no module docstring"


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
print(getattr(kernels, "MARK", "ours"))
"""


@pytest.mark.parametrize("theirs", [False, True], ids=["alone", "with-their-kernels-package"])
@pytest.mark.parametrize("directory", ["root", "elsewhere"])
def test_imports_beside_hugging_face_kernels(theirs, directory, tmp_path):
    """A foreign `kernels` package stays visible under its own name, and ours under prefmill.kernels."""
    environment = {**os.environ}
    if theirs:
        package = tmp_path / "site" / "kernels"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("MARK = 'theirs'\n")
        environment["PYTHONPATH"] = str(package.parent)
    probe = PROBE if theirs else PROBE.replace(", kernels", "").replace('getattr(kernels, "MARK", "ours")', '"ours"')
    modules = ["kernels", "base.errors", "pipeline.store", "cli.main", "train.launch"]
    result = subprocess.run(
        [sys.executable, "-c", probe, *modules],
        cwd=ROOT if directory == "root" else tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ("theirs" if theirs else "ours")


def test_wheel_holds_every_module(tmp_path):
    """The wheel imports without the repository: all modules and the files they read are inside."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path), "."]
    result = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    site = tmp_path / "site"
    wheel = next(tmp_path.glob("*.whl"))
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    missing = [path for path in SOURCES if not (site / "prefmill" / path.relative_to(ROOT)).exists()]
    assert not missing
    assert (site / "prefmill/pipeline/report.html").exists()
    # -S and -I keep the editable install out: only the wheel's copy can be what is imported
    code = (
        "import sys; sys_path = sys.__dict__['path']; sys_path[:0] = sys.argv[1:];"
        "import prefmill.pipeline.prompts as module; print(module.__file__)"
    )
    import pydantic

    paths = [str(site), str(Path(pydantic.__file__).parents[1])]
    found = subprocess.run([sys.executable, "-I", "-S", "-c", code, *paths], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(site / "prefmill/pipeline/prompts.py")
