"""Two machines that are this one: two launchers, one process each, that meet and train what two processes train.

The second is started as a user starts it, launcher and worker; the first is forked.
"""

import json
import os
import socket
import subprocess
import sys

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.files import sha256_of
from prefmill.train.adapter_training import train
from prefmill.train.manifest import read_manifest
from prefmill.train.nodes import Node, this_node
from pydantic import ValidationError

from ..forked_worker import be_launcher, fork

NODE = """
import sys
from pathlib import Path
from prefmill.base.errors import PrefmillError
from prefmill.train.settings import DPOTrainingConfig
from prefmill.train.adapter_training import train
config = DPOTrainingConfig.model_validate_json(sys.argv[3])
try:
    train(Path(sys.argv[1]), Path(sys.argv[2]), config, lambda event: print(event.message or event.step))
except PrefmillError as error:
    sys.exit(str(error))
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_two_nodes_train_what_two_processes_train(run_folder, settings, tmp_path, monkeypatch):
    common = {"backend": "shared", "accumulation": 1, "max_steps": 6}
    train(run_folder, tmp_path / "one", settings(processes=2, **common))
    output = tmp_path / "two"
    config = settings(nodes=2, rendezvous=f"127.0.0.1:{free_port()}", **common)
    command = [sys.executable, "-c", NODE, str(run_folder), str(output), config.model_dump_json()]
    told = {**os.environ, "NODE_RANK": "1"}
    started = subprocess.Popen(command, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    forked = fork(be_launcher, (run_folder, output, config, tmp_path / "said", {"NODE_RANK": "0"}))
    other = started.communicate(timeout=200)[0]
    forked.join(200)
    first = (tmp_path / "said").read_text()
    assert (started.returncode, forked.exitcode) == (0, 0), first + other
    assert "training on 6 pairs with 2 processes" in first
    assert first.splitlines()[-2] == "6"
    assert other.splitlines()[0].startswith("node 1 of 2")

    manifest, alone = read_manifest(output), read_manifest(tmp_path / "one")
    assert manifest is not None
    assert alone is not None
    assert manifest.backend.processes == 2
    assert manifest.adapter_sha256 == alone.adapter_sha256 == sha256_of(output / "adapter/adapter_model.safetensors")
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 7))
    assert manifest.device_seconds == pytest.approx(2 * sum(line["seconds"] for line in lines), abs=2e-3)
    assert (output / "train.log-1").exists()
    # and what is finished is recognised on every node
    monkeypatch.setenv("NODE_RANK", "1")
    assert train(run_folder, output, config) == manifest
    with pytest.raises(PrefmillError, match=r"beta was 0\.1, now 0\.2"):
        train(run_folder, output, config.model_copy(update={"beta": 0.2}))


@pytest.mark.parametrize(
    ("told", "words"),
    [({}, "NODE_RANK is not set"), ({"NODE_RANK": "2"}, "NODE_RANK=2 names none"), ({"SLURM_NODEID": "x"}, "NODEID=x")],
)
def test_which_node_this_is_must_be_told(settings, monkeypatch, told, words):
    for name in ("NODE_RANK", "SLURM_NODEID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    config = settings(nodes=2, rendezvous="10.0.0.1:29500")
    with pytest.raises(PrefmillError, match=words) as caught:
        this_node(config)
    assert "NODE_RANK=0 to NODE_RANK=1" in caught.value.fix
    assert this_node(settings()) == Node()
    monkeypatch.setenv("NODE_RANK", "1")
    assert this_node(config) == Node(1, 2, "10.0.0.1:29500")


@pytest.mark.parametrize("wrong", [{"nodes": 2}, {"nodes": 2, "rendezvous": "host"}, {"nodes": 0}], ids=str)
def test_several_nodes_need_a_place_to_meet(settings, wrong):
    with pytest.raises(ValidationError):
        settings(**wrong)


def test_files_of_a_node_are_its_own():
    assert [Node(rank, 3).own(".lock") for rank in range(3)] == [".lock", ".lock-1", ".lock-2"]
    assert Node(1, 2, "localhost:1").is_local
    assert not Node(1, 2, "head.cluster:1").is_local
