"""A checkpoint is complete or it is none; a loss curve survives whatever its writer does."""

import json

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.train.checkpoints import MARKER, CheckpointNotes, mark_complete, newest_complete, newest_intact
from prefmill.train.events import MetricsFile
from prefmill.train.manifest import summarize


@pytest.fixture
def folder(tmp_path, backend):
    """checkpoint-2 and checkpoint-10, both complete: the newer one has the smaller name."""
    for step in (2, 10):
        part = tmp_path / f"checkpoint-{step}" / f"global_step{step}"
        part.mkdir(parents=True)
        (part / "optimizer.pt").write_bytes(b"state" * step)
        mark_complete(tmp_path / f"checkpoint-{step}", step, 12, CheckpointNotes(seconds=1.5, backend=backend))
    return tmp_path


def test_newest_is_the_one_with_most_steps(folder, backend):
    checkpoint = newest_complete(folder)
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.record.steps, checkpoint.is_last) == (10, 12, False)
    assert checkpoint.notes == CheckpointNotes(seconds=1.5, backend=backend)
    assert newest_intact(folder) == (checkpoint, [])


@pytest.mark.parametrize(
    "damage", ["no marker", "half a marker", "marker of bytes", "foreign marker", "short file", "missing file"]
)
def test_incomplete_checkpoint_is_passed_over_and_removed(folder, damage):
    broken = folder / "checkpoint-10"
    state = broken / "global_step10" / "optimizer.pt"
    if damage == "no marker":
        (broken / MARKER).unlink()
    elif damage == "half a marker":
        (broken / MARKER).write_text((broken / MARKER).read_text()[:40])
    elif damage == "marker of bytes":
        (broken / MARKER).write_bytes(b"\xff\xfe\x00")
    elif damage == "foreign marker":
        (broken / MARKER).write_text('{"step": "ten", "files": [1]}')
    elif damage == "short file":
        state.write_bytes(state.read_bytes()[:-1])
    else:
        state.unlink()
    checkpoint = newest_complete(folder)
    assert checkpoint is not None
    assert checkpoint.step == 2
    assert newest_intact(folder) == (checkpoint, ["checkpoint-10 was not written to its end and is removed"])
    assert [path.name for path in folder.iterdir()] == ["checkpoint-2"]


def test_flipped_bit_is_found_before_a_training_continues(folder):
    """The size is right, so only the content tells; where all are damaged, nothing is left to continue from."""
    for step in (2, 10):
        state = folder / f"checkpoint-{step}" / f"global_step{step}" / "optimizer.pt"
        state.write_bytes(b"State" + state.read_bytes()[5:])
    assert newest_intact(folder) == (
        None,
        [f"checkpoint-{step} is damaged (global_step{step}/optimizer.pt) and is removed" for step in (10, 2)],
    )
    assert list(folder.iterdir()) == []


def test_checkpoint_older_than_the_intact_one_is_kept(folder):
    (folder / "checkpoint-2" / "global_step2" / "optimizer.pt").write_bytes(b"State" * 2)
    checkpoint, removed = newest_intact(folder)
    assert checkpoint is not None
    assert (checkpoint.step, removed) == (10, [])


def test_foreign_folders_are_left_alone(folder):
    (folder / "checkpoint-best").mkdir()
    assert newest_intact(folder)[1] == []
    assert newest_complete(folder / "nowhere") is None
    assert (folder / "checkpoint-best").exists()


def test_reader_waits_for_the_end_of_a_line(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    assert list(metrics.follow()) == []
    metrics.append({"step": 1, "steps": 3, "loss": 0.5, "seconds": 1})
    with metrics.path.open("a") as file:
        file.write('{"step":2,"steps":3,')
    assert [event.step for event in metrics.follow()] == [1]
    assert [line["step"] for line in metrics.read()] == [1]
    with metrics.path.open("a") as file:
        file.write('"loss":0.25,"seconds":1}\n')
    assert [(event.step, event.metrics["loss"]) for event in metrics.follow()] == [(2, 0.25)]


def test_resumed_curve_holds_every_step_once(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        metrics.append({"step": step, "steps": 4, "loss": float(step), "seconds": 1})
    with metrics.path.open("a") as file:
        file.write('{"step":4,"st')  # the writer was killed here
    metrics.forget_after(2)
    metrics.skip()
    metrics.append({"step": 3, "steps": 4, "loss": 30.0, "seconds": 1})
    assert [event.metrics["loss"] for event in metrics.follow()] == [30.0]
    assert [json.loads(line)["loss"] for line in metrics.path.read_text().splitlines()] == [1.0, 2.0, 30.0]


@pytest.mark.parametrize(
    "line",
    [
        b'{"step":2,',
        b"\xff\xfe",
        b"[1, 2]",
        b'{"step":2,"steps":3,"loss":"low","seconds":1}',
        b'{"step":2,"steps":3}',
        b"[" * 3000,
    ],
    ids=["half", "bytes", "list", "text", "too few", "deep"],
)
def test_damaged_curve_is_named(tmp_path, line):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.append({"step": 1, "steps": 3, "loss": 0.5, "seconds": 1})
    with metrics.path.open("ab") as file:
        file.write(line + b"\n")
    for read in (metrics.read, lambda: metrics.forget_after(2), lambda: list(metrics.follow())):
        with pytest.raises(PrefmillError, match=r"metrics\.jsonl is damaged") as caught:
            read()
        assert f"delete {tmp_path} to train from the beginning" in caught.value.fix


@pytest.mark.parametrize("count", [1, 20, 21, 1000])
def test_summary_keeps_the_ends_of_the_curve(count):
    summary = summarize([{"step": step, "loss": 1 / step} for step in range(1, count + 1)])
    steps = [point[0] for point in summary["curve"]]
    assert (steps[0], steps[-1]) == (1, count)
    assert steps == sorted(set(steps))
    assert len(steps) <= 21
    assert (summary["first"], summary["lowest"]) == (1.0, summary["last"])
