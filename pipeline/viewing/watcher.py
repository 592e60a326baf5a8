"""The thread that keeps the index of a run up to date while the run goes on."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from ...base.errors import PrefmillError
from .index import RunIndex

SECONDS = 1.0
"""Between two looks at the run's folder."""


class RunWatcher:
    """Reads a run into its index, then looks for what is new. `wait` is for who needs the first rows."""

    def __init__(self, index: RunIndex, seconds: float = SECONDS) -> None:
        self.index, self.seconds = index, seconds
        self.failure: str | None = None
        """Why the run cannot be looked at any more; what was read stays."""
        self._stop, self._first = threading.Event(), threading.Event()

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

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self.index.refresh()
                while self.index.step() and not self._stop.is_set():
                    self._first.set()
                self.failure = None
            except PrefmillError as error:
                self.failure = error.message
            except Exception as error:
                logging.getLogger(__name__).exception("the run cannot be read any further")
                self.failure = f"{type(error).__name__}: {error}"
            self._first.set()
            self._stop.wait(self.seconds)
