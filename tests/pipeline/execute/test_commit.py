"""Ctrl-C at any instruction: what is on disk afterwards is valid, and the next run ends in the same rows."""

import sys
from pathlib import Path

import pytest
from prefmill.base.progress import Progress
from prefmill.pipeline.execute import commit, work
from prefmill.pipeline.execute.local import run_tasks
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.records import Score
from prefmill.pipeline.store import Dataset, Run

from .test_local import Batched, run_once, task

SMALL = ExecutorConfig(commit_seconds=1000, commit_bytes=2000, host_threads=1)
COUNT = 20


def run(folder):
    return run_once(folder, task(Batched(), count=COUNT), SMALL)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return run(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("rename", [1, 2])
def test_an_interrupt_right_after_a_shards_rename_leaves_no_second_shard_of_its_range(
    tmp_path, monkeypatch, expected, rename
):
    seen = []

    def interrupted(temporary, final, real=Path.replace):
        real(temporary, final)
        seen.extend([final] if final.suffix == ".parquet" else [])
        if len(seen) == rename:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    kept = Dataset(tmp_path / "scores", Score).shards  # raises where two shards claim one input
    assert kept[-1].stop >= 8 * rename
    assert run(tmp_path) == expected


class Interrupter:
    """Raises KeyboardInterrupt once, before the n-th instruction of the code that gathers and commits."""

    def __init__(self, instruction):
        self.left, self.files = instruction, {commit.__file__, work.__file__}

    def __call__(self, frame, event, argument):
        if frame.f_code.co_filename not in self.files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


def test_an_interrupt_at_any_instruction_ends_in_the_same_rows(tmp_path, expected):
    instruction, struck = 1, 0
    while True:
        folder, interrupter = tmp_path / str(instruction), Interrupter(instruction)
        traced = sys.gettrace()
        sys.settrace(interrupter)
        try:
            run(folder)
        except KeyboardInterrupt:
            struck += 1
        finally:
            sys.settrace(traced)
        if interrupter.left > 0:
            break
        assert run(folder) == expected
        instruction += 23  # a prime: over the loops of the code, every instruction's turn comes
    assert struck > 20


def test_outputs_of_another_type_are_a_defect_that_is_named(tmp_path):
    class Wrong(Batched):
        def finish(self, computed):
            return [*super().finish(computed), "text"]  # pyright: ignore[reportReturnType]

    with Run.writing(tmp_path) as writing, pytest.raises(Exception, match="returned a str"):
        run_tasks(writing, [task(Wrong(), count=4)], SMALL, Progress())
