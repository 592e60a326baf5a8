"""A worker's process: obeys what comes through a pipe, and ends when the coordinator does.

python -m prefmill.pipeline.execute.serve DESCRIPTOR
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

from .units import Servant


def main() -> None:
    """Serve the coordinator at the other end of the descriptor named on the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the coordinator, which lets go of its workers
    pipe, told = Connection(int(sys.argv[1])), queue.SimpleQueue[bytes]()
    threading.Thread(target=_listen, args=(pipe, told), daemon=True).start()
    servant = Servant()
    while True:
        pipe.send_bytes(servant.obey(told.get()))


def _listen(pipe: Connection, told: queue.SimpleQueue[bytes]) -> None:
    try:
        while True:
            told.put(pipe.recv_bytes())
    except (EOFError, OSError):  # the coordinator is gone: what is being computed has nobody to commit it
        os._exit(0)


if __name__ == "__main__":
    main()
