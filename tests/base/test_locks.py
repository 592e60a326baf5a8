"""A lock keeps others out while its holder lives, says who that is, and tells "held" from "no locks here"."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest
from prefmill.base.locks import exclusive, holder_of

HOLD = "import sys\nfrom prefmill.base.locks import exclusive\nfrom pathlib import Path\n" + (
    "with exclusive(Path(sys.argv[1])):\n print('held', flush=True)\n sys.stdin.read()"
)


class Busy(Exception):
    pass


def test_a_second_holder_is_refused_and_told_of_the_first_until_it_dies(tmp_path):
    path = tmp_path / "lock"
    first = subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdin
    assert first.stdout
    assert first.stdout.readline() == b"held\n"
    with pytest.raises(Busy), exclusive(path, Busy()):
        pass
    assert holder_of(path).startswith(f"process {first.pid} on ")
    first.kill()
    first.wait()
    first.stdin.close()
    first.stdout.close()
    with exclusive(path, Busy()):
        assert holder_of(path).startswith(f"process {os.getpid()} on ")


def test_a_file_system_without_locks_is_not_called_busy(tmp_path, monkeypatch):
    def refuses(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuses)
    with pytest.raises(OSError, match="No locks available"), exclusive(tmp_path / "lock", Busy()):
        pass


def test_a_full_disk_keeps_nobody_from_the_lock(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with exclusive(tmp_path / "lock", Busy()):
        assert holder_of(tmp_path / "lock") == "another process"


def test_nobody_is_named_where_there_is_no_lock(tmp_path):
    assert holder_of(tmp_path / "nothing") == "another process"
