"""How sides take turns: the order, the warm-up, the clock, and a process with its own number of threads."""

import time

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.bench.turns import at_threads, ratio, take_turns, timed


def test_sides_take_turns_and_the_first_round_does_not_count():
    order = []

    def side(name):
        order.append(name)
        return {"cpu": float(len(order)), "wall": 0.0}

    raw = take_turns({"a": lambda: side("a"), "b": lambda: side("b")}, rounds=2)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert [row["cpu"] for row in raw["b"]] == [4.0, 5.0]


def test_a_ratio_is_the_median_over_rounds():
    slow, quick = ([{"cpu": value} for value in seconds] for seconds in ((4.0, 9.0, 6.0), (2.0, 1.0, 3.0)))
    assert ratio(slow, quick) == 2.0


def test_waiting_takes_wall_seconds_and_no_cpu_seconds():
    timing = timed(lambda: time.sleep(0.05) or "done")
    assert timing["result"] == "done"
    assert timing["wall"] >= 0.05
    assert timing["cpu"] < 0.04


def test_a_process_that_ends_early_is_an_error(monkeypatch):
    monkeypatch.setattr("subprocess.run", lambda *rest, **more: type("Done", (), {"returncode": 1, "stdout": ""}))
    with pytest.raises(PrefmillError, match="2 threads ended early"):
        at_threads("engines_side", {}, 2)
