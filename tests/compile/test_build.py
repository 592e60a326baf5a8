"""Engines on disk: what appears, what is taken, and what a full disk, a kill or a second process do to it."""

import errno
import json
import os
import subprocess
import sys
import time

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.compile.build import build_engine, check_build, lock_of, verify_engine
from prefmill.engine.artifact import MANIFEST, artifacts_in, find_artifact, identity_of
from prefmill.engine.backends.catalogue import load_engine, make_runner
from prefmill.engine.backends.engine_runner import EngineRunner
from prefmill.engine.settings import EngineSettings

from .conftest import StoredWeights, toy

CPU = torch.device("cpu")


def build(root, network=None, **options):
    return build_engine(network or toy(), "onnxruntime", "float32", CPU, root, **options)


def settings(root, **changes):
    return EngineSettings(device="cpu", backend="onnxruntime", artifacts=str(root), **changes)


def test_a_built_engine_is_verified_and_found_again(workshop, tmp_path):
    folder, artifact = build(tmp_path)
    assert artifact.state == "verified"
    assert artifact.notes == {"builds": 1}
    assert max(row.maximum_relative_error for row in artifact.parity) == 0.0
    assert set(artifact.files) == {"weights.pt"}
    assert artifact.files["weights.pt"].bytes == (folder / "weights.pt").stat().st_size
    assert build(tmp_path) == (folder, artifact)
    assert workshop.builds == 1
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == [folder.name]


def test_a_runner_of_it_gives_what_the_network_does(workshop, tmp_path):
    build(tmp_path)
    runner = make_runner(toy(), settings(tmp_path))
    assert runner.execution.backend == "onnxruntime"
    inputs = toy().sample({"rows": 3, "wide": 6}, torch.float32)
    assert torch.equal(runner.run(inputs)["sums"], make_runner(toy()).run(inputs)["sums"])


def test_a_batch_above_the_range_goes_in_equal_parts_with_equal_results(workshop, tmp_path):
    build(tmp_path)
    runner = make_runner(toy(), settings(tmp_path))
    assert isinstance(runner, StoredWeights)
    inputs = toy().sample({"rows": 9, "wide": 2}, torch.float32)
    assert torch.equal(runner.run(inputs)["sums"], make_runner(toy()).run(inputs)["sums"])
    assert runner.rows == [3, 3, 3]


def test_another_size_outside_the_range_is_an_error_with_its_range(workshop, tmp_path):
    build(tmp_path)
    inputs = toy().sample({"rows": 2, "wide": 10}, torch.float32)
    with pytest.raises(PrefmillError, match="takes wide from 2 to 8, not 10"):
        make_runner(toy(), settings(tmp_path)).run(inputs)


def test_other_weights_are_another_engine(workshop, tmp_path):
    first, _ = build(tmp_path)
    network = toy()
    with torch.no_grad():
        next(network.module.parameters())[0, 0] += 1e-3
    with pytest.raises(PrefmillError, match="another weights"):
        make_runner(network, settings(tmp_path))
    second, _ = build(tmp_path, network)
    assert second != first


def test_weights_that_change_in_place_between_two_loads_are_seen(workshop, tmp_path):
    network = toy()
    build(tmp_path, network)
    assert isinstance(make_runner(network, settings(tmp_path)), EngineRunner)
    next(network.module.parameters()).data += 1.0  # as an adapter is merged: torch itself gives no sign of it
    with pytest.raises(PrefmillError, match="another weights"):
        make_runner(network, settings(tmp_path))


@pytest.mark.parametrize("field", ["source", "versions", "specification", "precision"])
def test_another_version_never_loads(field, workshop, tmp_path):
    folder, artifact = build(tmp_path)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["identity"][field] = {"torch": "1.0"} if field == "versions" else "other"
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(LookupError, match="is for torch" if field == "versions" else f"another {field}"):
        find_artifact(tmp_path, artifact.identity, CPU)


def test_another_device_never_loads(workshop, tmp_path):
    folder, artifact = build(tmp_path)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "targets": ["sm_80"]}))
    with pytest.raises(LookupError, match="is for sm_80, here is"):
        find_artifact(tmp_path, artifact.identity, CPU)


def test_an_engine_that_disagrees_is_kept_and_never_loaded(workshop, tmp_path):
    workshop.change = 0.5
    with pytest.raises(PrefmillError, match="differs from the network"):
        build(tmp_path)
    [(folder, artifact)] = artifacts_in(tmp_path)
    assert artifact.state == "built"
    with pytest.raises(PrefmillError, match="built and not verified"):
        make_runner(toy(), settings(tmp_path))
    with pytest.raises(PrefmillError, match="differs from the network"):
        build(tmp_path)
    assert workshop.builds == 1, "the same bytes are not built twice"
    assert folder.is_dir()


def test_what_was_built_and_not_compared_is_compared_and_not_built_again(workshop, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("prefmill.compile.build.compare", stopped)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path)
    assert [artifact.state for _, artifact in artifacts_in(tmp_path)] == ["built"]
    assert build(tmp_path)[1].state == "verified"
    assert workshop.builds == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_a_build_that_is_stopped_leaves_nothing_and_the_next_one_works(error, workshop, tmp_path):
    def fail(path):
        raise error

    workshop.instead = fail
    kind = PrefmillError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(kind) as raised:
        build(tmp_path)
    if isinstance(error, OSError):
        assert "No space left" in str(raised.value)
        assert "engine.artifacts" in str(raised.value)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    workshop.instead = None
    assert build(tmp_path)[1].state == "verified"


def test_what_a_kill_left_is_written_over_and_that_of_others_stays(workshop, tmp_path):
    folder, _ = build(tmp_path)
    (tmp_path / f".tmp-{folder.name}").mkdir()
    (tmp_path / f".tmp-{folder.name}" / "weights.pt").write_bytes(b"half")
    (tmp_path / ".tmp-other-0123456789abcdef").mkdir()
    (folder / "weights.pt").write_bytes(b"half")
    assert build(tmp_path)[1].state == "verified"
    assert not (tmp_path / f".tmp-{folder.name}").exists()
    assert (tmp_path / ".tmp-other-0123456789abcdef").exists(), "another process may be writing it"


def _truncate(folder):
    (folder / "weights.pt").write_bytes((folder / "weights.pt").read_bytes()[:-5])


def _flip(folder):
    data = bytearray((folder / "weights.pt").read_bytes())
    data[-1] ^= 1
    (folder / "weights.pt").write_bytes(data)


def _remove(folder):
    (folder / "weights.pt").unlink()


def _link_to_nothing(folder):
    _remove(folder)
    (folder / "weights.pt").symlink_to("/no/such/file")


@pytest.mark.parametrize("harm", [_truncate, _flip, _remove, _link_to_nothing])
def test_a_damaged_engine_is_an_error_with_the_command_and_is_built_again(harm, workshop, tmp_path):
    folder, artifact = build(tmp_path)
    harm(folder)
    with pytest.raises(PrefmillError, match=r"is damaged: weights\.pt") as error:
        make_runner(toy(), settings(tmp_path))
    assert "prefmill compile build" in error.value.fix
    with pytest.raises(PrefmillError, match="is damaged"):
        verify_engine(toy(), folder, artifact, CPU)
    assert "is damaged" in make_runner(toy(), settings(tmp_path, missing="eager")).fallback
    again, _ = build(tmp_path)
    assert again == folder
    assert workshop.builds == 2
    assert isinstance(make_runner(toy(), settings(tmp_path)), EngineRunner)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1}', None])
def test_a_folder_in_the_way_without_a_manifest_of_ours_is_replaced(text, workshop, tmp_path):
    folder, artifact = build(tmp_path)
    manifest = json.loads((folder / MANIFEST).read_text())
    newer = json.dumps({**manifest, "schema": 9})
    (folder / MANIFEST).write_text(newer if text is None else text)
    with pytest.raises(LookupError, match="none was built"):
        find_artifact(tmp_path, artifact.identity, CPU)
    assert build(tmp_path)[1].state == "verified"


def test_a_damaged_engine_gives_way_to_a_narrower_one_that_is_whole(workshop, tmp_path):
    wide, _ = build(tmp_path, ranges={"rows": (1, 2, 8)})
    narrow, _ = build(tmp_path)
    identity = identity_of(toy(), "onnxruntime", "float32")
    assert find_artifact(tmp_path, identity, CPU)[0] == wide
    _truncate(wide)
    assert find_artifact(tmp_path, identity, CPU)[0] == narrow


def test_a_folder_that_cannot_be_written_to(workshop, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PrefmillError, match="cannot write"):
        build(tmp_path / "file" / "engines")
    folder, _ = build(tmp_path / "whole")
    lock_of(tmp_path / "blocked", folder.name).mkdir(parents=True)
    with pytest.raises(PrefmillError, match=r"cannot write the engine.*Is a directory"):
        build(tmp_path / "blocked")


def test_an_engine_that_is_there_needs_no_folder_that_can_be_written_to(workshop, tmp_path):
    folder, _ = build(tmp_path)
    lock_of(tmp_path, folder.name).unlink()
    lock_of(tmp_path, folder.name).mkdir()
    assert build(tmp_path)[0] == folder


def test_a_backend_that_is_not_installed_names_its_extra(workshop, tmp_path, monkeypatch):
    monkeypatch.setitem(
        sys.modules["prefmill.engine.backends.catalogue"].ENGINES, "onnxruntime", ("toy", "X", "no_such_package")
    )
    with pytest.raises(PrefmillError, match="not installed") as error:
        make_runner(toy(), settings(tmp_path))
    assert error.value.fix == "pip install prefmill[onnxruntime]"
    with pytest.raises(PrefmillError, match="not installed"):
        build(tmp_path)
    assert "not installed" in make_runner(toy(), settings(tmp_path, missing="eager")).fallback


def test_a_device_that_is_not_here_needs_a_builder_for_such(workshop):
    with pytest.raises(PrefmillError, match="not for sm_80"):
        check_build("onnxruntime", "float32", ("sm_80",), CPU)


SECOND = """
import sys
from pathlib import Path
from prefmill.base.locks import exclusive
root, name = Path(sys.argv[1]), sys.argv[2]
with exclusive(root / f".{name}.lock"):
    print("held", flush=True)
    sys.stdin.readline()
    (root / f"aside-{name}").rename(root / name)
"""


def test_a_second_process_waits_and_takes_what_the_first_built(workshop, tmp_path):
    """The other process holds the lock, and puts a finished engine in its place before it lets go."""
    folder, artifact = build(tmp_path)
    folder.rename(tmp_path / f"aside-{folder.name}")
    manifest = tmp_path / f"aside-{folder.name}" / MANIFEST
    text = manifest.read_text()
    manifest.write_text("{}")  # not to be found under its other name
    with subprocess.Popen(
        [sys.executable, "-c", SECOND, str(tmp_path), folder.name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as first:  # fmt: skip
        assert first.stdin is not None
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        from threading import Thread

        found = []
        waiting = Thread(target=lambda: found.append(build(tmp_path)))
        waiting.start()
        time.sleep(0.3)
        assert not found, "it waits"
        manifest.write_text(text)
        first.stdin.write("\n")
        first.stdin.flush()
        waiting.join(30)
    assert found == [(folder, artifact)]
    assert workshop.builds == 1


def test_load_engine_runs_whatever_the_state(workshop, tmp_path):
    folder, artifact = build(tmp_path)
    runner = load_engine(toy(), folder, artifact.model_copy(update={"state": "built"}), CPU)
    assert runner.run(toy().sample({"rows": 1, "wide": 2}, torch.float32))["sums"].shape == (1, 2, 2)
