"""How much memory a piece of work took at its height, where the system can tell.

The peak that getrusage knows is that of the process since it began: after a large model it says nothing of what came
later. Linux lets a process set its own mark back.
"""

import re
from pathlib import Path

_STATUS, _MARKS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Begins to measure where it is made; `taken` is what was held at most since, above what was held then, in bytes.

    None where the system does not tell.
    """

    def __init__(self) -> None:
        self._before = self._read("VmRSS")
        try:
            _MARKS.write_text("5")  # the mark of resident memory begins anew: proc(5)
        except OSError:
            self._before = None

    @property
    def taken(self) -> int | None:
        """Bytes, at least 0."""
        peak = self._read("VmHWM")
        return None if peak is None or self._before is None else max(0, peak - self._before)

    @staticmethod
    def _read(name: str) -> int | None:
        try:
            match = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
        except OSError:
            return None
        return int(match.group(1)) * 1024 if match else None
