"""A budget counts what the ledger says, stops before the next batch, and is continued by a larger one."""

import json

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.pipeline.budget import Budget, BudgetSpent, Purse
from prefmill.pipeline.device_time import device_times
from prefmill.pipeline.execute.local import run_tasks
from prefmill.pipeline.execute.meter import CLOCK
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.ledger import DeviceLedger, DeviceTime, totals
from prefmill.pipeline.records import Score
from prefmill.pipeline.sources import ListSource
from prefmill.pipeline.stage import Stage, Task
from prefmill.pipeline.store import Run
from prefmill.pipeline.usage import Usage

HOUR = 3600.0


class Clock:
    """Time that passes only where a test lets it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Slow(Stage[int, Score]):
    """Ten hours to load, one for an input."""

    model_keys = ("slow@1",)

    def __init__(self, clock):
        self.clock = clock
        clock.now += 10 * HOUR

    def prepare(self, inputs):
        return inputs

    def compute(self, prepared):
        self.clock.now += HOUR * len(prepared)
        return [Score(str(number), "slow", 1.0) for number in prepared]


@pytest.fixture
def clock(monkeypatch):
    passing = Clock()
    monkeypatch.setattr(CLOCK, "read", passing)
    return passing


def execute(folder, clock, budget=None, count=12):
    source = ListSource(range(count), [f"input-{number}" for number in range(count)])
    task = Task("scores", Score, lambda: source, lambda: Slow(clock), 2, fan_out=1)
    with Run.writing(folder) as run:
        run_tasks(run, [task], ExecutorConfig(price_per_device_hour=2.0), Progress(), budget=budget)


def stored(folder):
    return [row.subject_id for row in Run(folder).dataset("scores", Score)]


def test_loading_work_and_waiting_are_all_that_was_held(tmp_path, clock):
    execute(tmp_path, clock)
    taken = totals(DeviceLedger(tmp_path))["scores"]
    assert (taken.loading, taken.work, taken.idle) == (10 * HOUR, 12 * HOUR, 0.0)
    assert (taken.units, taken.rows, taken.loads, taken.rate) == (12, 12, 1, HOUR)
    manifest = Run(tmp_path).manifest("scores")
    assert (manifest["seconds"], manifest["cost"]) == (22 * HOUR, 44.0)
    execute(tmp_path, clock)  # nothing is missing, so nothing is held
    assert totals(DeviceLedger(tmp_path))["scores"] == taken


def test_a_run_stops_before_the_batch_that_its_budget_does_not_cover(tmp_path, clock):
    with pytest.raises(BudgetSpent, match=r"next unit of scores takes about 4, and the budget of 35 has 3 left"):
        execute(tmp_path, clock, Budget(35.0, 2.0))  # 20 to load, 4 a batch
    assert stored(tmp_path) == [str(number) for number in range(6)]
    assert totals(DeviceLedger(tmp_path))["scores"].seconds == 16 * HOUR
    with pytest.raises(BudgetSpent, match="the budget of 35 has 3 left"):  # what was spent counts again
        execute(tmp_path, clock, Budget(35.0, 2.0))
    assert clock.now == 16 * HOUR
    execute(tmp_path, clock, Budget(100.0, 2.0))
    assert stored(tmp_path) == [str(number) for number in range(12)]
    assert Run(tmp_path).manifest("scores")["cost"] == 2.0 * (10 + 6 + 10 + 6)


def test_hours_need_no_price_and_answers_of_servers_cost_money_alone(tmp_path):
    ledger = DeviceLedger(tmp_path)
    paid = Usage(1, 0, 0, 0, 0.0, 0.0, 3.0)
    ledger.add(DeviceTime(stage="a", what="work", seconds=HOUR, began=1, usage=paid))
    hours, money = Purse(Budget(2.0), ledger), Purse(Budget(7.0, 2.0), ledger)
    hours.require("a", 0.9 * HOUR)
    money.require("a", 0.9 * HOUR)
    with pytest.raises(BudgetSpent, match="2 device hours has 1 device hours left"):
        hours.require("a", 1.1 * HOUR)
    with pytest.raises(BudgetSpent, match="the budget of 7 has 2 left"):
        money.require("a", 1.1 * HOUR)
    ledger.add(DeviceTime(stage="a", what="idle", seconds=HOUR, began=2))
    with pytest.raises(BudgetSpent, match="the budget of 2 device hours is spent"):
        hours.require("a", 0.0)


@pytest.mark.parametrize(
    ("money", "hours", "price", "words"),
    [
        (5.0, 1.0, 1.0, "both given"),
        (0.0, None, 1.0, "--budget 0 is no amount"),
        (None, float("nan"), None, "--budget-hours nan is no amount"),
        (5.0, None, None, "price of a device hour is not known"),
    ],
)
def test_budgets_that_are_none(money, hours, price, words):
    with pytest.raises(PrefmillError, match=words):
        Budget.of(money, hours, price)
    assert Budget.of(None, None, price) is None


def test_time_that_only_manifests_know_counts_too(tmp_path):
    run = Run(tmp_path)
    (tmp_path / "candidates").mkdir()
    manifest = {"fingerprint": "f", "complete": True, "inputs": 4, "outputs": 16, "seconds": 8.0, "config": {}}
    run.write_manifest("candidates", manifest)
    assert device_times(run)["candidates"].rate == 2.0
    DeviceLedger(tmp_path).add(DeviceTime(stage="candidates", what="work", seconds=5.0, began=1, units=2))
    assert device_times(run)["candidates"].seconds == 8.0
    training = tmp_path / "training"
    training.mkdir()
    (training / "training.json").write_text("{}")
    (training / "manifest.json").write_text(
        json.dumps({"device_seconds": 6.0, "pairs": 3, "backend": {"device": "cuda"}, "hardware": {"gpu": "H100"}})
    )
    before = device_times(run)["training"]
    assert (before.training, before.units, before.devices) == (6.0, 3, ("H100",))
    DeviceLedger(tmp_path).add(DeviceTime(stage="training", what="training", seconds=9.0, began=1, units=3))
    assert device_times(run)["training"].training == 9.0
