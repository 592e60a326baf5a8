"""Work beside other work: tasks in threads, and the cores shared between them and what goes on in front."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar

import torch

Result = TypeVar("Result")


def in_background(task: Callable[[], Result]) -> Future[Result]:
    """Start a task in a thread that ends with the program: Ctrl-C does not wait for it."""
    future = Future[Result]()

    def work() -> None:
        try:
            future.set_result(task())
        except Exception as error:  # whatever it was, who waits for the result has to hear of it
            future.set_exception(error)

    Thread(target=work, daemon=True).start()
    return future


@contextmanager
def half_of_the_cores() -> Iterator[None]:
    """Leave the other half to what is started inside: more threads than cores wait for each other."""
    before, given = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    half = max(1, before // 2)
    os.environ["OMP_NUM_THREADS"] = str(half)
    torch.set_num_threads(half)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if given is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = given
