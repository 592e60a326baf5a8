"""The thread that keeps the index of a run up to date while the run goes on."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

from ...base.errors import PrefmillError
from .index import RunIndex

SECONDS = 1.0
"""Between two looks at the run's folder."""
_PAUSE, _LONGEST_PAUSE = 0.06, 0.5
"""Seconds after an answer, for the page's next request; and the most that a portion is held up."""


class RunWatcher:
    """Reads a run into its index, then looks for what is new. `wait` is for who needs the first rows."""

    def __init__(self, index: RunIndex, seconds: float = SECONDS) -> None:
        self.index, self.seconds = index, seconds
        self.failure: str | None = None
        """Why the run cannot be looked at any more; what was read stays."""
        self._stop, self._first = threading.Event(), threading.Event()
        self._requests, self._last_request = 0, 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run the thread for the length of a block."""
        thread = threading.Thread(target=self._work, name="prefmill-view", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(5)

    def wait(self, seconds: float) -> None:
        """Wait until the first rows of every table have been read, but no longer than this."""
        self._first.wait(seconds)

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Hold the reading up for the length of a block: somebody waits for an answer."""
        self._requests += 1  # all by the one thread of the event loop
        try:
            yield
        finally:
            self._requests -= 1
            self._last_request = time.monotonic()

    def _give_way(self) -> None:
        until = time.monotonic() + _LONGEST_PAUSE
        while (now := time.monotonic()) < until and (self._requests or now - self._last_request < _PAUSE):
            self._stop.wait(0.005)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self.index.refresh()
                while (
                    self.index.step(self._give_way if self._first.is_set() else lambda: None)
                    and not self._stop.is_set()
                ):
                    self._first.set()
                self.failure = None
            except PrefmillError as error:
                self.failure = error.message
            except Exception as error:
                logging.getLogger(__name__).exception("the run cannot be read any further")
                self.failure = f"{type(error).__name__}: {error}"
            self._first.set()
            self._stop.wait(self.seconds)
