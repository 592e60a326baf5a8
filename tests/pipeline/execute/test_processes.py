"""Real processes that die, hang and see too little: rows, rejects and bytes are always those of one process."""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.bench.filling import filling_tasks, write_prompts
from prefmill.bench.sleeping import NAME, Trouble, begun_in, sleeping_task
from prefmill.pipeline.execute import units
from prefmill.pipeline.execute.crew import Died, Failed, Made, Ready, StageOrder, Unit
from prefmill.pipeline.execute.local import run_tasks
from prefmill.pipeline.execute.processes import ProcessCrew
from prefmill.pipeline.execute.units import Servant, UnitWorker
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.ledger import DeviceLedger, totals
from prefmill.pipeline.records import Score
from prefmill.pipeline.shards import STAGED
from prefmill.pipeline.stage import digest, work_digest
from prefmill.pipeline.store import Dataset, Run

SMALL = ExecutorConfig(unit_seconds=0.0)


class Noted(Progress):
    def __init__(self):
        self.notices = []

    def notice(self, text):
        self.notices.append(text)


@pytest.fixture(scope="module")
def crew():
    """Two processes for the whole module: they outlive what befalls them."""
    made = ProcessCrew([None, None])
    yield made
    made.close()


def content(folder):
    dataset = Dataset(folder / NAME, Score)
    assert all(shard.is_intact() for shard in dataset.shards)
    assert not dataset.conflicts
    return list(dataset), list(dataset.rejects())


def brought(folder, crew, config=SMALL, progress=None, budget=None, **how):
    """The rows and rejects of a run, or the error that ended it."""
    with Run.writing(folder) as run:
        run_tasks(run, [sleeping_task(folder, **how)], config, progress or Progress(), crew=crew, budget=budget)
    assert not (folder / NAME / STAGED).exists()
    return content(folder)


def filled(folder, prompts, crew, config=SMALL):
    """The rows and rejects of all stages of a recipe whose models are replaced by ones that make rows at once."""
    with Run.writing(folder) as run:
        tasks = filling_tasks(run.folder, prompts, batch=8)
        run_tasks(run, tasks, config, Progress(), crew=crew)
        datasets = {task.name: run.dataset(task.name, task.output) for task in tasks}
    return {name: (list(dataset), list(dataset.rejects())) for name, dataset in datasets.items()}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    return write_prompts(tmp_path_factory.mktemp("prompts") / "prompts.txt", 20)


@pytest.fixture(scope="module")
def expected_recipe(tmp_path_factory, prompts):
    return filled(tmp_path_factory.mktemp("recipe"), prompts, None)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return brought(tmp_path_factory.mktemp("local"), None)


def test_rows_rejects_and_bytes_are_those_of_one_process(tmp_path, crew, expected):
    assert brought(tmp_path / "two", crew) == expected
    assert sorted(begun_in(tmp_path / "two")) == list(range(0, 40, 4))
    alone = tmp_path / "alone"
    brought(alone, None, ExecutorConfig(commit_seconds=0))
    names = [sorted(path.name for path in (folder / NAME).glob("*.parquet")) for folder in (alone, tmp_path / "two")]
    assert len(set(names[0]) & set(names[1])) >= 4  # the same range, the same rows: the same bytes
    manifest = Run.open(tmp_path / "two").manifest(NAME)
    assert (manifest["complete"], manifest["inputs"], manifest["outputs"]) == (True, 40, 68)
    pieces = [piece for piece in DeviceLedger(tmp_path / "two") if piece.what == "work"]
    assert {piece.engine for piece in pieces} == {"processes"}
    assert len({piece.worker for piece in pieces}) == 2
    assert sum(piece.units for piece in pieces) == 40
    assert manifest["seconds"] == pytest.approx(totals(DeviceLedger(tmp_path / "two"))[NAME].seconds, abs=0.001)


def test_all_stages_of_a_recipe_have_the_rows_and_rejects_of_one_process(tmp_path, crew, prompts, expected_recipe):
    assert filled(tmp_path, prompts, crew) == expected_recipe
    counts = {name: (len(rows), len(rejects)) for name, (rows, rejects) in expected_recipe.items()}
    assert (counts["candidates"], counts["responses-b"]) == ((80, 0), (20, 0))
    assert sum(counts["responses-a"]) == 20 > counts["responses-a"][0]
    assert counts["pairs"][0] > 10


def test_a_killed_worker_costs_one_unit(tmp_path, crew, expected):
    progress = Noted()
    assert brought(tmp_path, crew, progress=progress, trouble=Trouble("kill", 21, once=True)) == expected
    assert sorted(begun_in(tmp_path)) == sorted([*range(0, 40, 4), 20])
    assert "given up over the inputs 20 to 23, attempt 1" in progress.notices[0]
    assert "killed by SIGKILL" in progress.notices[0]


def test_inputs_that_kill_or_hang_are_named_and_all_others_committed(tmp_path, crew, expected):
    with pytest.raises(PrefmillError, match="inputs 20 to 23 cost 2 workers each") as caught:
        brought(tmp_path, crew, ExecutorConfig(unit_seconds=0, attempts=2, slowest=2), trouble=Trouble("hang", 21))
    assert "all others are committed" in caught.value.message
    rows = {row.subject_id for row in content(tmp_path)[0]}
    assert rows == {row.subject_id for row in expected[0] if not 20 <= int(row.subject_id.split("-")[0]) < 24}
    assert brought(tmp_path, crew) == expected  # the same command, without what befell it
    assert sorted(begun_in(tmp_path))[-1] == 36


def test_a_worker_that_dies_while_loading_is_a_named_error(tmp_path, crew):
    with pytest.raises(PrefmillError, match="workers died one after another while they loaded scores"):
        brought(tmp_path, crew, ExecutorConfig(attempts=1), trouble=Trouble("load"))


COORDINATOR = """
import sys
from pathlib import Path
from prefmill.base.progress import Progress
from prefmill.pipeline.execute.local import run_tasks
from prefmill.pipeline.execute.processes import ProcessCrew
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.store import Run
from prefmill.bench.sleeping import sleeping_task
folder = Path(sys.argv[1])
with Run.writing(folder) as run:
    work = [sleeping_task(folder, seconds=0.1)]
    run_tasks(run, work, ExecutorConfig(unit_seconds=0), Progress(), crew=ProcessCrew([None, None]))
"""


def test_a_killed_coordinator_takes_its_workers_along_and_the_next_one_makes_what_is_missing(tmp_path, crew):
    """Meanwhile a second coordinator is refused: the first one holds the run."""
    draw = random.Random(20261128)
    coordinator = subprocess.Popen([sys.executable, "-c", COORDINATOR, str(tmp_path)])
    shards = draw.randrange(1, 7)
    while len(Dataset(tmp_path / NAME, Score).shards) < shards:
        time.sleep(0.02)
        assert coordinator.poll() is None
    with pytest.raises(PrefmillError, match=f"is in use by process {coordinator.pid}"):
        brought(tmp_path, crew, seconds=0.1)
    workers = [int(pid) for pid in Path(f"/proc/{coordinator.pid}/task/{coordinator.pid}/children").read_text().split()]
    coordinator.kill()
    coordinator.wait()
    covered = {shard.start for shard in Dataset(tmp_path / NAME, Score).shards}
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its coordinator"
        time.sleep(0.05)
    done = len(begun_in(tmp_path))
    rows, rejects = brought(tmp_path, crew, seconds=0.1)
    assert (len(rows), len(rejects)) == (68, 6)
    assert begun_in(tmp_path)[done:]
    assert not covered & set(begun_in(tmp_path)[done:])
    assert len(begun_in(tmp_path)) <= 10 + 2  # one unit for each worker


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def order_of(task, folder, config=None):
    return StageOrder(task.again, str(folder / NAME), "f", config or digest(task.config), 2, 2)


def told(servant, message):
    sent = pickle.dumps(message)
    reply = servant.obey(sent)
    assert len(sent) + len(reply) < 10_000
    return pickle.loads(reply)


def test_only_numbers_travel(tmp_path):
    task, servant = sleeping_task(tmp_path, count=4000, batch=400), Servant()
    (tmp_path / NAME / STAGED).mkdir(parents=True)
    assert isinstance(told(servant, order_of(task, tmp_path)), Ready)
    keys = task.source().keys(0, 4000)
    reply = told(servant, Unit(0, 4000, work_digest("f", keys)))
    assert isinstance(reply, Made)
    assert reply.rows == 2 * sum(number % 7 != 3 for number in range(4000))
    assert (tmp_path / NAME / STAGED / reply.file).stat().st_size == reply.size > 10_000


def test_a_worker_that_sees_too_little_looks_again_and_then_says_so(tmp_path, monkeypatch):
    """A network file system's listing that is a minute old."""
    monkeypatch.setattr(units, "PATIENCE", (0.0, 0.0))
    (tmp_path / NAME / STAGED).mkdir(parents=True)
    task = sleeping_task(tmp_path)
    unit = Unit(36, 40, work_digest("f", task.source().keys(36, 40)))
    worker = UnitWorker(order_of(sleeping_task(tmp_path, seen=38), tmp_path))
    with pytest.raises(PrefmillError, match=r"does not find .* the inputs 36 to 39 of scores"):
        worker.make(unit)
    worker.order = order_of(task, tmp_path)  # what it sees now
    assert worker.make(unit).stop == 40


def test_a_worker_of_another_version_or_on_other_hardware_is_refused(tmp_path):
    reply = told(Servant(), order_of(sleeping_task(tmp_path), tmp_path, config="another"))
    assert isinstance(reply, Failed)
    assert "computes scores otherwise than the coordinator planned" in reply.message


def test_a_vanished_folder_is_a_named_error(tmp_path):
    servant, task = Servant(), sleeping_task(tmp_path)
    assert isinstance(told(servant, order_of(task, tmp_path)), Ready)
    reply = told(servant, Unit(0, 4, work_digest("f", task.source().keys(0, 4))))  # nobody made the folder
    assert isinstance(reply, Failed)
    assert reply.is_known
    assert "cannot write" in reply.message


def test_each_process_sees_one_gpu_from_its_start_and_pins_its_threads(monkeypatch):
    seen = []

    class Recorded(subprocess.Popen):
        def __init__(self, command, env, **keywords):
            seen.append((env.get("CUDA_VISIBLE_DEVICES"), env.get("OMP_NUM_THREADS")))
            super().__init__([sys.executable, "-c", ""], env=env, **keywords)

    monkeypatch.setattr("prefmill.pipeline.execute.processes.subprocess.Popen", Recorded)
    crew = ProcessCrew(["2", "MIG-5"], threads=3)
    task = sleeping_task(Path("unused"))
    names = [crew.start(order_of(task, Path("unused"))) for _ in range(2)]
    assert seen == [("2", "3"), ("MIG-5", "3")]
    died = []
    while len(died) < 2:
        died += crew.collect(1.0)
    assert sorted(name for name, event in died if isinstance(event, Died)) == sorted(names)
    crew.start(order_of(task, Path("unused")))
    assert seen[2][0] in {"2", "MIG-5"}
    crew.close()


def test_ctrl_c_is_the_coordinators(crew, tmp_path):
    """The terminal sends it to every process of the group."""
    brought(tmp_path, crew)
    pids = [process.handle.pid for process in crew.spare]
    for pid in pids:
        os.kill(pid, signal.SIGINT)
    time.sleep(0.1)
    assert pids
    assert all(is_running(pid) for pid in pids)
