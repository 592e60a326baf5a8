"""What a folder of engines holds, and what may be removed of it."""

import json

import pytest
import torch
from prefmill.base.locks import exclusive
from prefmill.compile.build import build_engine, lock_of
from prefmill.compile.inventory import holdings, prune
from prefmill.engine.artifact import MANIFEST

from .conftest import toy

CPU = torch.device("cpu")


@pytest.fixture
def root(workshop, tmp_path):
    """One engine of every kind, and folders that are none, by what stands in their way."""
    made = {}

    def engine(name, change=None):
        folder, _ = build_engine(toy(name=name), "onnxruntime", "float32", CPU, tmp_path)
        manifest = json.loads((folder / MANIFEST).read_text())
        if change is not None:
            change(manifest)
            (folder / MANIFEST).write_text(json.dumps(manifest))
        made[name] = folder
        return folder

    engine("good")
    engine("other_version", lambda manifest: manifest["identity"]["versions"].update(torch="1.0"))
    engine("other_code", lambda manifest: manifest["identity"].update(source="0"))
    engine("other_device", lambda manifest: manifest.update(targets=["sm_80"]))
    engine("newer", lambda manifest: manifest.update(schema=9))
    engine("disagrees", lambda manifest: manifest.update(state="built"))
    engine("not_compared", lambda manifest: manifest.update(state="built", parity=[]))
    engine("unknown", lambda manifest: manifest["identity"].update(backend="warp"))
    (engine("short") / "weights.pt").write_bytes(b"half")
    folder = engine("cut")
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:-40])
    for name in ("photos", "data-0123456789abcdef", ".tmp-mine"):
        made[name] = tmp_path / name
        made[name].mkdir()
        (made[name] / "manifest.json").write_text('{"mine": 1}')
    made["half"] = tmp_path / ".tmp-toy-0123456789abcdef"
    made["half"].mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "linked").symlink_to(made["good"])
    return tmp_path, made


OBSTACLES = {
    "good": "",
    "other_version": "is for torch 1.0, here",
    "other_code": "other code",
    "other_device": "is for sm_80",
    "newer": "another version of Prefmill (it has schema)",
    "disagrees": "built and not verified",
    "not_compared": "built and not verified",
    "unknown": "backend warp, which is not installed",
    "short": "is damaged: weights.pt",
    "cut": "is damaged: its manifest",
    "photos": "no engine of ours",
    "data-0123456789abcdef": "no engine of ours",
    ".tmp-mine": "no engine of ours",
    "half": "half written",
}
USELESS = {"other_version", "other_code", "newer", "disagrees", "short", "cut", "half"}


def test_every_folder_is_named_with_what_stands_in_its_way(root):
    folder, made = root
    found = {holding.folder: holding for holding in holdings(folder, CPU)}
    assert set(found) == {*made.values(), folder / "linked"}
    for name, words in OBSTACLES.items():
        assert words in found[made[name]].obstacle
        assert bool(found[made[name]].obstacle) == bool(words)
    assert {name for name, path in made.items() if found[path].useless} == USELESS
    assert found[made["good"]].bytes == sum(path.stat().st_size for path in made["good"].iterdir())
    json.dumps([holding.to_json() for holding in found.values()])


def test_prune_removes_what_nothing_can_load_and_touches_nothing_else(root):
    folder, made = root
    (made["other_version"] / "link").symlink_to(folder / "notes.txt")
    before = {path.name for path in folder.iterdir()}
    found = holdings(folder, CPU)
    assert prune(found, older_than=1.0) == []
    planned = prune(found, dry_run=True)
    assert {path.name for path in folder.iterdir() if path.is_dir()} <= before
    with exclusive(lock_of(folder, "toy-0123456789abcdef")):
        removed = prune(found)
    assert {holding.folder for holding in planned} == {made[name] for name in USELESS}
    assert {holding.folder for holding in removed} == {made[name] for name in USELESS - {"half"}}, "it is being built"
    left = {path for path in folder.iterdir() if not path.name.endswith(".lock")}
    kept = {path for name, path in made.items() if name not in USELESS - {"half"}}
    assert left == {*kept, folder / "linked", folder / "notes.txt"}


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert holdings(tmp_path / "none", CPU) == []
