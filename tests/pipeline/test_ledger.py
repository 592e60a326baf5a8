"""The ledger: pieces of device time survive kills, several writers, and being written twice."""

import subprocess
import sys
from pathlib import Path

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.ledger import LEDGER, DeviceLedger, DeviceTime, StageTime, totals
from prefmill.pipeline.usage import Usage

WRITER = """
import sys
from pathlib import Path
from prefmill.pipeline.ledger import DeviceLedger, DeviceTime
for number in range(50):
    piece = DeviceTime(stage="s" * 3000, what="work", seconds=1, began=number, units=1, worker=sys.argv[2])
    DeviceLedger(Path(sys.argv[1])).add(piece)
"""


def piece(**values):
    return DeviceTime(**{"stage": "candidates", "what": "work", "seconds": 2.0, "began": 10.0, **values})


def test_pieces_are_summed_by_what_they_went_to(tmp_path):
    ledger = DeviceLedger(tmp_path)
    assert list(ledger) == []
    pieces = [
        piece(what="loading", seconds=5.0, device="H100"),
        piece(units=4, rows=16, start=0, stop=4, device="H100", usage=Usage(4, 0, 40, 8)),
        piece(units=2, rows=7, start=4, stop=6, began=12.0, device="A100", usage=Usage(2, 1, 20, 4)),
        piece(what="idle", seconds=0.5, began=14.0),
        piece(stage="training", what="training", seconds=30.0),
    ]
    ledger.add(*pieces[:2])
    ledger.add(*pieces[2:])
    assert list(ledger) == pieces
    sums = totals(ledger)
    candidates = StageTime(5.0, 4.0, 0.5, 0.0, 1, 6, 23, Usage(6, 1, 60, 12), ("H100", "A100"))
    assert sums == {"candidates": candidates, "training": StageTime(training=30.0)}
    assert (candidates.seconds, candidates.rate) == (9.5, 4 / 6)
    assert sums["training"].rate is None


def test_a_line_that_a_kill_cut_short_is_passed_over_and_the_next_begins_anew(tmp_path):
    ledger = DeviceLedger(tmp_path)
    ledger.add(piece(units=1), piece(units=2))
    whole = ledger.path.read_bytes()
    for cut in range(1, 20):
        ledger.path.write_bytes(whole[:-cut])
        ledger.add(piece(units=3))
        assert [found.units for found in ledger] == ([1, 2, 3] if cut == 1 else [1, 3])


def test_a_piece_written_twice_counts_once(tmp_path):
    ledger = DeviceLedger(tmp_path)
    ledger.add(piece(units=1), piece(units=1))
    ledger.add(piece(units=1))
    ledger.add(piece(units=1, began=11.0))
    assert totals(ledger)["candidates"].units == 2


def test_writers_do_not_mix_their_lines(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, name]) for name in ("a", "b")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    found = [(entry.worker, entry.began) for entry in DeviceLedger(tmp_path)]
    assert sorted(found) == [(name, float(number)) for name in ("a", "b") for number in range(50)]


def test_a_disk_that_refuses_is_named(tmp_path):
    (tmp_path / LEDGER).mkdir()
    with pytest.raises(PrefmillError, match=r"cannot write .*ledger.jsonl"):
        DeviceLedger(tmp_path).add(piece())
    with pytest.raises(PrefmillError, match=r"cannot read .*ledger.jsonl"):
        list(DeviceLedger(tmp_path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named(tmp_path):
    (tmp_path / LEDGER).symlink_to("/dev/full")
    with pytest.raises(PrefmillError, match="No space left"):
        DeviceLedger(tmp_path).add(piece())
