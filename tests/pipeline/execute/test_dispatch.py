"""The dispatcher against a crew that does what a test says, and a clock that goes when it says so."""

from collections import deque
from typing import Any

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.execute.crew import Died, Failed, Made, Ready, StageOrder
from prefmill.pipeline.execute.dispatch import UNMEASURED, Dispatcher, DispatchListener
from prefmill.pipeline.execute.plan import Batch, cut
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.manifest import StageReport
from prefmill.pipeline.stage import Task

ONE_BY_ONE = ExecutorConfig(unit_seconds=0)
NOTHING: Any = list
ORDER = StageOrder(lambda: Task("scores", object, NOTHING, NOTHING, 4), "folder", "f", "c", 2, 2)
READY = Ready(StageReport(), "host:1")


def made(unit, size=100):
    return Made(unit.start, unit.stop, "file", "0" * 16, unit.stop - unit.start, size, 0.5)


class Scripted:
    """`answer(worker, unit)` returns what comes of a unit, or None: nothing, ever; `load(number)` what of a start."""

    engine = "scripted"

    def __init__(self, answer=lambda worker, unit: made(unit), load=lambda number: READY, workers=2, seconds=1.0):
        self.answer, self.load, self.workers, self.seconds = answer, load, workers, seconds
        self.now, self.started, self.events = 0.0, 0, deque()
        self.units, self.stopped = [], []

    def size(self):
        return self.workers

    def warm(self):
        """Nothing takes time."""

    def start(self, order):
        self.started += 1
        worker = f"w{self.started}"
        self.events.append((worker, self.load(self.started)))
        return worker

    def submit(self, worker, unit):
        self.units.append((worker, unit.start, unit.stop))
        event = self.answer(worker, unit)
        if event is not None:
            self.events.append((worker, event))

    def collect(self, seconds):
        self.now += self.seconds
        events, self.events = list(self.events), deque()
        return events

    def stop(self, worker, *, spent):
        self.stopped.append((worker, spent))

    def close(self):
        """Nothing is held."""


class Heard(DispatchListener):
    def __init__(self):
        self.reasons, self.loading, self.idle = [], 0.0, 0.0

    def loaded(self, hand, seconds):
        self.loading += seconds

    def lost(self, hand, seconds, reason):
        self.reasons.append(reason)

    def idled(self, hand, seconds):
        self.idle += seconds


def dispatched(crew, count=40, config=ONE_BY_ONE, batches=None, listener=None, results=None, usual=0.0):
    """What was made, in order, and the error at the end; `usual` seconds for a batch, as far as was known before."""
    dispatcher = Dispatcher(
        crew, ORDER, "scores", lambda a, b: f"{a}-{b}", config, listener or Heard(), lambda: crew.now, usual
    )
    results = [] if results is None else results
    try:
        for result in dispatcher.results(list(cut(0, count, 4)) if batches is None else batches):
            results.append((result.made.start, result.made.stop))
    except PrefmillError as error:
        return results, error
    return results, None


def covered(results):
    """The inputs of results, of which none may come twice."""
    inputs = [number for start, stop in results for number in range(start, stop)]
    assert len(inputs) == len(set(inputs))
    return sorted(inputs)


def test_every_input_comes_once_and_workers_are_kept_for_the_next_stage():
    crew = Scripted()
    results, error = dispatched(crew)
    assert (covered(results), error) == (list(range(40)), None)
    assert {worker for worker, _, _ in crew.units} == {"w1", "w2"}
    assert crew.stopped == [("w1", False), ("w2", False)]


def test_units_grow_with_the_time_they_may_take_and_shrink_at_the_end():
    crew = Scripted(seconds=1.0)
    results, _ = dispatched(crew, 4 * 200, ExecutorConfig(unit_seconds=8.0))
    sizes = [(stop - start) // 4 for _, start, stop in crew.units]
    assert sizes[:2] == [1, 1]
    assert 4 <= max(sizes) <= 64
    assert sizes[-1] < max(sizes)
    assert covered(results) == list(range(800))
    by_bytes = Scripted(lambda worker, unit: made(unit, size=1000 * (unit.stop - unit.start)))
    dispatched(by_bytes, 800, ExecutorConfig(unit_seconds=1e6, commit_bytes=8000))
    assert max(stop - start for _, start, stop in by_bytes.units) == 8


def test_a_unit_never_spans_a_gap():
    crew = Scripted()
    done, _ = dispatched(crew, batches=[Batch(0, 4), Batch(4, 8), Batch(12, 16), Batch(30, 32), Batch(32, 36)])
    assert covered(done) == [*range(8), *range(12, 16), *range(30, 36)]


def test_what_a_worker_says_that_was_given_up_counts_for_nothing():
    zombie = []

    def answer(worker, unit):
        if not zombie and unit.start == 8:
            zombie.append((worker, unit))
            return None  # hangs
        return made(unit)

    class Rising(Scripted):
        """The first worker that was given up speaks all the same, twice."""

        def collect(self, seconds):
            if zombie and (zombie[0][0], True) in self.stopped:
                self.events.extend([(zombie[0][0], made(zombie[0][1]))] * 2)
            return super().collect(seconds)

    crew, heard = Rising(answer), Heard()
    results, error = dispatched(crew, config=ExecutorConfig(unit_seconds=0, slowest=5.0), listener=heard)
    assert (covered(results), error) == (list(range(40)), None)
    assert heard.reasons == ["it was not done after 5 s"]
    assert sum(start == 8 for _, start, _ in crew.units) == 2


def test_a_worker_that_speaks_of_another_unit_is_not_believed():
    crew = Scripted()
    crew.answer = lambda worker, unit: (
        crew.events.append((worker, Made(900, 904, "x", "0" * 16, 4, 1, 1.0))),
        made(unit),
    )[1]
    results, error = dispatched(crew)
    assert (covered(results), error) == (list(range(40)), None)


def test_a_unit_that_kills_is_found_within_three_workers_and_everything_else_is_made():
    crew, heard = Scripted(lambda worker, unit: Died("killed") if unit.start <= 21 < unit.stop else made(unit)), Heard()
    results, error = dispatched(crew, 160, ExecutorConfig(unit_seconds=100.0), listener=heard)
    assert covered(results) == [number for number in range(160) if not 20 <= number < 24]
    assert error is not None
    assert "inputs 20 to 23 cost 3 workers each (killed); all others are committed" in error.message
    assert heard.reasons == ["killed"] * 3
    assert crew.started <= 2 + 3


def test_a_defect_of_the_stage_is_a_failed_attempt_and_an_error_of_ours_ends_the_stage_when_others_are_done():
    crew = Scripted(lambda worker, unit: Failed("ValueError: x", "", False) if unit.start == 8 else made(unit))
    results, error = dispatched(crew)
    assert len(covered(results)) == 36
    assert error is not None
    assert "ValueError: x" in error.message
    crew = Scripted(
        lambda worker, unit: Failed("the disk is full", "make room", True) if unit.start == 8 else made(unit)
    )
    results, error = dispatched(crew)
    assert error is not None
    assert (error.message, error.fix) == ("the disk is full", "make room")
    assert results[-1] == (12, 16)  # was under way
    assert len(crew.units) == 4


def test_workers_that_die_while_loading_are_an_error_and_no_endless_loop():
    crew = Scripted(load=lambda number: Died("killed by SIGKILL"))
    results, error = dispatched(crew, config=ExecutorConfig(attempts=3))
    assert error is not None
    assert "workers died one after another while they loaded scores: killed by SIGKILL" in error.message
    assert (results, crew.started, crew.units) == ([], 4, [])  # two at a time: the fourth had been begun
    one_bad = Scripted(load=lambda number: READY if number == 1 else Died("no memory"))
    results, error = dispatched(one_bad)
    assert (covered(results), error) == (list(range(40)), None)
    wrong = Scripted(load=lambda number: Failed("no such checkpoint", "name another", True))
    results, error = dispatched(wrong)
    assert error is not None
    assert (results, error.message, wrong.started) == ([], "no such checkpoint", 2)


def test_a_stage_whose_every_unit_kills_ends_long_before_its_inputs_do():
    crew = Scripted(lambda worker, unit: Died("killed"))
    results, error = dispatched(crew, 4000)
    assert error is not None
    assert "none has made a unit" in error.message
    assert (results, len(crew.units) <= 8) == ([], True)


def test_deadlines_begin_when_a_worker_is_ready_and_follow_what_is_usual():
    """Loading takes two hours. The first unit may take an hour, later ones ten times what was usual, or a minute."""
    slow = Scripted(workers=1, seconds=60.0)
    slow.load = lambda number: None
    loads = slow.collect

    def collect(seconds):
        if slow.now >= 7200.0 and slow.started and not slow.units and not slow.events:
            slow.events.append(("w1", READY))
        return [(worker, event) for worker, event in loads(seconds) if event is not None]

    slow.collect = collect
    results, error = dispatched(slow)
    assert (covered(results), error, slow.started) == (list(range(40)), None, 1)
    never, heard = Scripted(lambda worker, unit: None, workers=1, seconds=200.0), Heard()
    dispatched(never, 4, ExecutorConfig(attempts=1), listener=heard)
    assert never.now > UNMEASURED
    assert heard.reasons == [f"it was not done after {UNMEASURED:.0f} s"]
    later, heard = (
        Scripted(lambda worker, unit: None if unit.start == 20 else made(unit), workers=1, seconds=9.0),
        Heard(),
    )
    dispatched(later, 40, ExecutorConfig(unit_seconds=0, attempts=1), listener=heard)
    assert heard.reasons == ["it was not done after 90 s"]


def test_that_no_worker_is_ready_is_said_once():
    class Waiting(Heard):
        def waits(self, seconds):
            self.reasons.append(round(seconds))

    class Busy(Scripted):
        """Ready after 400 seconds."""

        def collect(self, seconds):
            return [*super().collect(seconds), *([(f"w{n}", READY) for n in (1, 2)] if self.now == 400 else [])]

    crew, heard = Busy(load=lambda number: None), Waiting()
    results, error = dispatched(crew, listener=heard)
    assert (covered(results), error, heard.reasons) == (list(range(40)), None, [181])


def test_a_unit_that_cannot_be_paid_for_is_not_begun_and_those_under_way_come_back():
    class Poor(Heard):
        left = 5

        def afford(self, seconds, pending):
            self.left -= 1
            return PrefmillError("the budget is spent") if self.left < 0 else None

    crew = Scripted()
    results, error = dispatched(crew, listener=Poor())
    assert error is not None
    assert error.message == "the budget is spent"
    assert (len(crew.units), len(covered(results))) == (5, 20)


@pytest.mark.parametrize(("workers", "budget"), [(1, 9.5), (2, 12.0), (2, 13.5), (5, 20.0)])
def test_a_budget_is_passed_by_no_more_than_a_unit_for_each_worker(workers, budget):
    """All workers are held, and paid for, from the first second to the last one; a unit takes one second."""

    class Limited(Heard):
        spent = 0.0

        def afford(self, seconds, pending):
            self.spent = seconds + pending + self.loading + 0.5 * len(results)
            return PrefmillError("the budget is spent") if self.spent > budget else None

    crew, results = Scripted(workers=workers), []
    _, error = dispatched(crew, 400, listener=Limited(), results=results, usual=1.0)
    assert error is not None
    assert budget - 2 * workers <= workers * crew.now <= budget + workers
    assert len(results) == len(crew.units)


def test_all_workers_are_let_go_also_where_their_time_cannot_be_booked():
    class Refused(Heard):
        def idled(self, hand, seconds):
            raise PrefmillError("no space")

    crew = Scripted(workers=3)
    _, error = dispatched(crew, listener=Refused())
    assert error is not None
    assert sorted(worker for worker, _ in crew.stopped) == ["w1", "w2", "w3"]


def test_time_is_told_of_whole():
    crew, heard = Scripted(workers=1), Heard()
    dispatched(crew, 12, listener=heard)
    assert heard.loading == 1.0
    assert heard.loading + heard.idle + 3 * 0.5 == crew.now
