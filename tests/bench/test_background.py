"""Tasks beside the work in front: in their order, with their errors, on half of the cores."""

import os
import threading

import pytest
import torch
from prefmill.bench.background import half_of_the_cores, in_background


def test_tasks_go_on_side_by_side_and_hand_back_what_they_made_or_raised():
    both = threading.Barrier(2)

    def failing():
        both.wait(10)
        raise ValueError("broken")

    def made():
        both.wait(10)
        return threading.current_thread().daemon

    broken, whole = in_background(failing), in_background(made)
    with pytest.raises(ValueError, match="broken"):
        broken.result(10)
    assert whole.result(10) is True, "a thread that is no daemon would keep Ctrl-C waiting"


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
