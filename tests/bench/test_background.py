"""Tasks beside the work in front: in their order, with their errors, on half of the cores."""

import os
import threading

import pytest
import torch
from prefmill.bench.background import half_of_the_cores, in_background


def test_tasks_follow_each_other_and_hand_back_what_they_made_or_raised():
    begun, go = [], threading.Event()

    def first():
        begun.append("first")
        assert go.wait(10)
        raise ValueError("broken")

    def second():
        begun.append("second")
        return threading.current_thread().daemon

    failing, following = in_background(first, second)
    assert not following.done()
    assert "second" not in begun
    go.set()
    with pytest.raises(ValueError, match="broken"):
        failing.result(10)
    assert following.result(10) is True, "a thread that is no daemon would keep Ctrl-C waiting"
    assert begun == ["first", "second"]


@pytest.mark.parametrize("given", [None, "7"])
def test_half_of_the_cores_are_left_while_it_lasts(given, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        with half_of_the_cores():
            assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (2, "2")
        assert (torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")) == (5, given)
    finally:
        torch.set_num_threads(before)
