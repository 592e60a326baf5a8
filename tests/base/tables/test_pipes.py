"""A pipe is read once and whole, and waiting for one ends."""

import os
import threading
import time

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.tables import pipes
from prefmill.base.tables.formats import open_table

ROWS = 20_000


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "rows.fifo"
    os.mkfifo(path)
    return path


def written(path, data, pause=0.0):
    """Write to a pipe in a thread that never outlives the test."""

    def write():
        with path.open("wb", buffering=0) as stream:
            time.sleep(pause)
            stream.write(data)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def test_all_rows_of_a_pipe_arrive_however_often_they_are_read(pipe):
    lines = [f"prompt {number}" for number in range(ROWS)]
    thread = written(pipe, "\n".join(lines).encode(), pause=0.3)  # a writer that is silent at first is waited for
    for _ in range(2):
        table = open_table(pipe, "--prompts", text_column="text")
        assert [row.fields["text"] for row in table.scan()] == lines
        assert table.rows(ROWS - 1, ROWS)[0].place == f"pipe:{ROWS}"
    thread.join(5)
    assert not thread.is_alive()


def test_a_pipe_of_a_process_is_read_whole(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b'{"a": 1}\n{"a": 2}\n')
    os.close(writer)
    try:
        table = open_table(f"/dev/fd/{reader}", "--answers")
    finally:
        os.close(reader)
    assert [row.fields for row in table.scan()] == [{"a": 1}, {"a": 2}]


def test_a_pipe_that_nobody_writes_to_is_given_up(pipe, monkeypatch):
    monkeypatch.setattr(pipes, "PATIENCE", 0.2)
    begun = time.monotonic()
    with pytest.raises(PrefmillError, match="nobody has written") as caught:
        open_table(pipe, "--answers")
    assert time.monotonic() - begun < 5
    assert "--answers" in caught.value.fix
