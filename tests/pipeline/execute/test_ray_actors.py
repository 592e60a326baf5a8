"""Ray's actors that are killed: the rows are those of one process. What is wrong with a cluster is said in words."""

import random
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.bench.sleeping import NAME, Trouble, begun_in
from prefmill.pipeline.execute.ray_actors import RayCrew
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.ledger import DeviceLedger
from prefmill.pipeline.records import Score
from prefmill.pipeline.store import Dataset
from prefmill.recipes.checks import executor_problems

from .test_processes import Noted, brought, expected_recipe, filled, prompts

__all__ = ["expected_recipe", "prompts"]

CONFIG = ExecutorConfig(engine="ray", workers=2, unit_seconds=0)


@pytest.fixture(scope="module")
def crew():
    """A cluster on this machine, for the whole module."""
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        made = RayCrew(CONFIG)
        assert made.size() == 2
        yield made
        made.close()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return brought(tmp_path_factory.mktemp("local"), None)


def test_rows_and_rejects_are_those_of_one_process_and_a_killed_actor_costs_one_unit(tmp_path, crew, expected):
    progress = Noted()
    assert brought(tmp_path, crew, CONFIG, progress, trouble=Trouble("kill", 21, once=True)) == expected
    assert sorted(begun_in(tmp_path)) == sorted([*range(0, 40, 4), 20])
    assert "given up over the inputs 20 to 23, attempt 1" in progress.notices[0]
    assert {piece.engine for piece in DeviceLedger(tmp_path)} == {"ray"}


def test_all_stages_of_a_recipe_have_the_rows_and_rejects_of_one_process(tmp_path, crew, prompts, expected_recipe):
    assert filled(tmp_path, prompts, crew, CONFIG) == expected_recipe
    pieces = [piece for piece in DeviceLedger(tmp_path) if piece.what == "work" and piece.engine == "ray"]
    assert len({piece.stage for piece in pieces}) == 6
    assert len({piece.worker for piece in pieces}) <= 2, "each stage has actors of its own"


def test_inputs_that_kill_are_named_and_all_others_committed(tmp_path, crew, expected):
    with pytest.raises(PrefmillError, match="inputs 20 to 23 cost 2 workers each"):
        brought(tmp_path, crew, CONFIG.model_copy(update={"attempts": 2}), trouble=Trouble("kill", 21))
    assert len(Dataset(tmp_path / NAME, Score)) == len(expected[0]) - 8
    assert brought(tmp_path, crew, CONFIG) == expected


def test_an_actor_that_died_between_two_stages_is_replaced_and_no_attempt(tmp_path, crew, expected):
    brought(tmp_path / "one", crew, CONFIG)
    assert crew.spare
    for actor in crew.spare:
        crew.ray.kill(actor.handle)
    progress = Noted()
    once = CONFIG.model_copy(update={"attempts": 1})
    assert brought(tmp_path / "two", crew, once, progress) == expected
    assert progress.notices == []


COORDINATOR = """
import sys
from pathlib import Path
from prefmill.base.progress import Progress
from prefmill.pipeline.execute.local import run_tasks
from prefmill.pipeline.execute.ray_actors import RayCrew
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.store import Run
from prefmill.bench.sleeping import sleeping_task
folder, config = Path(sys.argv[1]), ExecutorConfig(engine="ray", address=sys.argv[2], workers=2, unit_seconds=0)
with Run.writing(folder) as run:
    run_tasks(run, [sleeping_task(folder, seconds=0.2)], config, Progress(), crew=RayCrew(config))
"""


def test_a_killed_driver_costs_a_unit_for_each_worker(tmp_path, crew, expected):
    """It is one of the cluster's drivers: the cluster, and what this process does there, go on."""
    for actor in crew.spare:  # their places are needed
        crew.ray.kill(actor.handle)
    crew.spare.clear()
    address = crew.ray.get_runtime_context().gcs_address
    driver = subprocess.Popen([sys.executable, "-c", COORDINATOR, str(tmp_path), address])
    shards = random.Random(20261128).randrange(1, 7)
    while len(Dataset(tmp_path / NAME, Score).shards) < shards:
        time.sleep(0.02)
        assert driver.poll() is None
    driver.kill()
    driver.wait()
    covered = {shard.start for shard in Dataset(tmp_path / NAME, Score).shards}
    rows, rejects = brought(tmp_path, crew, CONFIG, seconds=0.2)
    assert (rows, rejects) == expected
    again = [start for start in begun_in(tmp_path) if begun_in(tmp_path).count(start) > 1]
    assert len(set(again)) <= 2
    assert not covered & set(again)


def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if there were no such module
    with pytest.raises(PrefmillError, match="ray, which is not installed") as caught:
        RayCrew(CONFIG).size()
    assert "prefmill[ray]" in caught.value.fix


@pytest.mark.parametrize("address", ["no-such-host.invalid:6379", "127.0.0.1:1", "cluster", "ray://head:10001"])
def test_a_wrong_address_is_named_at_once(address):
    pytest.importorskip("ray", reason="Ray is not installed")
    crew = RayCrew(CONFIG.model_copy(update={"address": address}))
    with pytest.raises(PrefmillError, match=r"ray|cluster") as caught:
        crew.ray.wait([])
    assert address in caught.value.message
    assert "executor.address" in (caught.value.fix or "")
    [problem] = executor_problems(crew.config)
    assert problem.message == caught.value.message


def test_an_address_where_something_listens_is_no_problem():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert list(executor_problems(CONFIG.model_copy(update={"address": address}))) == []


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def connected(monkeypatch, address, init, **config):
    """The error of a crew whose Ray connects as a test says."""
    exceptions, tried = SimpleNamespace(RayError=type("AuthenticationError", (Exception,), {})), []

    def connect(*words, **settings):
        tried.append(words)
        init(*words, **settings)

    ray = SimpleNamespace(is_initialized=lambda: False, init=connect, exceptions=exceptions, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    crew = RayCrew(CONFIG.model_copy(update={"address": address, **config}))
    try:
        with pytest.raises(PrefmillError) as caught:
            crew.size()
    finally:
        crew.close()
    assert tried == [(address,)]
    return caught.value


def test_a_cluster_that_says_nothing_is_given_up(monkeypatch, listening):
    told = threading.Event()
    began = time.monotonic()
    error = connected(monkeypatch, listening, lambda *_, **__: told.wait(), connect_seconds=0.1)
    told.set()
    assert time.monotonic() - began < 30
    assert error.message == f"the Ray cluster at {listening} cannot be used: it did not answer within 0.1 s"
    assert "executor.address=HOST:PORT" in (error.fix or "")
    assert "executor.connect_seconds=SECONDS" in (error.fix or "")


def test_a_wrong_token_is_named(monkeypatch, listening):
    def refuse(*_, **__):
        raise sys.modules["ray"].exceptions.RayError("Authentication failed.\nSee the documentation.")

    error = connected(monkeypatch, listening, refuse)
    assert error.message == f"the Ray cluster at {listening} cannot be used: Authentication failed."
    assert "RAY_AUTH_TOKEN" in (error.fix or "")


def test_whatever_ray_says_of_its_start_is_no_traceback(monkeypatch, listening):
    def fail(*_, **__):
        raise Exception("The current node timed out during startup.")

    error = connected(monkeypatch, listening, fail)
    assert "cannot be used: The current node timed out during startup." in error.message


def test_what_ray_starts_ends_with_the_crew_and_not_before(monkeypatch, listening):
    """The kernel ends a cluster's processes with the thread that started them."""
    threads = []
    exceptions = SimpleNamespace(RayError=RuntimeError)
    ray = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda *_, **__: threads.append(threading.current_thread()),
        exceptions=exceptions,
        cluster_resources=lambda: {"CPU": 2.0},
        shutdown=lambda: None,
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    crew = RayCrew(CONFIG.model_copy(update={"address": listening}))
    assert crew.size() == 2
    assert threads[0].is_alive()
    crew.close()
    threads[0].join(10)
    assert not threads[0].is_alive()
