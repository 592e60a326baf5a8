"""The wheel is whole: it scores, exports and judges outside of the repository, without what only trainings need."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pydantic
import pytest
from PIL import Image
from prefmill.base.extras import TRAIN

ROOT = Path(__file__).parents[1]
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
PACKAGES = [ROOT.joinpath(*name.split(".")[1:]) for name in SETUP["packages"]]
DATA = (ROOT / "micro/trained", ROOT / "pipeline/writing/texts")
# -I and -S keep the editable install and the environment out: only what is in the two folders can be imported.
CODE = """
import sys
path, folders, arguments = sys.__dict__["path"], sys.argv[1:3], sys.argv[3:]
path[:0] = folders
sys.argv = ["prefmill", *arguments]
from prefmill.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, unpacked, and the other packages of this environment without those of the extra `train`."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder), "."]
    result = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    wheel = next(folder.glob("*.whl"))
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", str(folder / "ours"), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    (folder / "theirs").mkdir()
    for path in Path(pydantic.__file__).parents[1].iterdir():
        name = path.name.lower().split("-")[0].removesuffix(".py")
        if name not in TRAIN and "prefmill" not in name and path.suffix != ".pth":
            (folder / "theirs" / path.name).symlink_to(path)
    return folder


@pytest.fixture
def prefmill(installed, tmp_path):
    """Run the wheel's command in an empty folder; returns (exit code, what it printed)."""

    def run(*arguments):
        command = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            CODE,
            str(installed / "ours"),
            str(installed / "theirs"),
            *arguments,
        ]
        environment = {**os.environ, "PREFMILL_CACHE": str(tmp_path / "cache")}
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return result.returncode, result.stdout + result.stderr

    return run


def test_the_wheel_holds_every_module_and_every_file_that_they_read(installed):
    site = installed / "ours" / "prefmill"
    files = [path for folder in PACKAGES for path in folder.iterdir() if path.is_file()]
    files += [
        path for folder in DATA for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    missing = [
        path for path in files if not (site / path.relative_to(ROOT)).exists() and path.suffix not in (".pyc", ".sh")
    ]
    assert not missing
    typed = {path.relative_to(ROOT).parts[0] for path in PACKAGES}
    assert all((site / folder / "py.typed").exists() for folder in typed)


def test_it_scores_imports_judges_and_exports_from_another_folder_and_says_what_a_training_needs(prefmill, tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "images/a.png")
    score = ("score", "images", "--prompt", "a ball", "--scorer", "clip", "--model", "clip=micro:clip", "--to", "s.csv")
    assert prefmill(*score)[0] == 0
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 2
    pair = {"image": "images/a.png", "question": "What is it?", "chosen": "A red thing.", "rejected": "A blue dog."}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    for command in (
        ("import", "--to", "run", "--pairs", "pairs.jsonl"),
        ("quality", "run"),
        ("report", "run"),
        ("export", "run", "--to", "out", "--format", "ms-swift"),
    ):
        code, told = prefmill(*command)
        assert code == 0, told
    assert (tmp_path / "out/README.md").exists()
    code, told = prefmill("train", "run", "--set", "model=micro:policy")
    assert code == 2
    assert "needs trl, peft, accelerate, deepspeed, which only the extra `train` installs" in told
    assert "pip install 'prefmill[train]'" in told
