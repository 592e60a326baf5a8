"""The index says which rows belong to which prompt, whatever order they come in, and goes on beside damage."""

import shutil
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.dataset import Dataset
from prefmill.pipeline.records import Candidate, Pair, Prompt, content_id
from prefmill.pipeline.store import Run
from prefmill.pipeline.viewing.entries import EntryReader
from prefmill.pipeline.viewing.index import RunIndex
from prefmill.pipeline.viewing.layout import KINDS, kind_of


def read(run, portion=None):
    index = RunIndex(run)
    if portion:
        index._portion = portion
    index.refresh()
    while index.step():
        if portion:
            index._portion = portion
    return index


def by_prompt(index, name):
    """The ids of a table's rows by their prompt's id, through the index."""
    reader, found = EntryReader(index), {}
    for entry in range(len(index)):
        table = index.tables[name]
        found[reader._named(entry)["id"]] = [row["id"] for row in table.read(table.rows.of(entry), ("id",))]
    return found


@pytest.mark.parametrize("portion", [None, 1, 3])
def test_every_row_finds_its_prompt(run, portion):
    index = read(run, portion)
    for name, record in (("candidates", Candidate), ("pairs", Pair)):
        prompts = {row.id: row.prompt_id for row in Dataset(run.folder / "candidates", Candidate)}
        expected = defaultdict(list)
        rows: Any = Dataset(run.folder / name, record)
        for row in rows:
            expected[row.prompt_id if name == "candidates" else prompts[row.image_id]].append(row.id)
        everyone = [row.id for row in Dataset(run.folder / "prompts", Prompt)]
        assert by_prompt(index, name) == {prompt: expected[prompt] for prompt in everyone}
    assert all((table.rows.column("owner") >= 0).all() for table in index.tables.values())
    assert index.progress() == 1.0
    assert not index.problems()


def test_rows_that_come_later_are_taken_up_and_their_order_does_not_matter(tmp_path, made):
    folder = tmp_path / "live"
    made.run(folder, range(3))
    index = read(Run(folder))
    before = by_prompt(index, "responses-a")
    made.run(folder, range(6, 9))  # another process was faster
    made.run(folder, range(3, 6))
    version = index.version
    assert index.refresh()
    while index.step():
        pass
    assert index.version > version
    found = by_prompt(index, "responses-a")
    assert len(found) == 9
    assert before.items() <= found.items()
    assert found[content_id("prompt", 7)] == [content_id("one", 7)]
    assert not index.refresh()


def test_answers_wait_for_a_question_that_has_not_been_read(tmp_path, made):
    made.run(tmp_path / "all", range(4))
    folder = tmp_path / "part"
    shutil.copytree(tmp_path / "all", folder, ignore=lambda path, names: {"candidates", "selections"} & set(names))
    index = read(Run(folder))
    assert len(index) == 8  # prompts, and the images that questions speak of
    for name in ("candidates", "selections"):
        shutil.copytree(tmp_path / "all" / name, folder / name)
    assert len(by_prompt(read(Run(folder)), "pairs")) == 4


def test_a_damaged_shard_is_named_and_the_rest_is_there(tmp_path, made):
    folder = tmp_path / "run"
    for first, last in pairwise((0, 3, 6)):
        made.run(folder, range(first, last))
    damaged = sorted((folder / "candidates").glob("*.parquet"))[0]
    data = bytearray(damaged.read_bytes())
    data[-20] ^= 255
    damaged.write_bytes(bytes(data))
    (folder / "pairs" / "_manifest.json").write_text("{")
    (sorted((folder / "responses-b").glob("*.parquet"))[1]).write_bytes(b"PAR1")
    index = read(Run(folder))
    assert {problem["where"].split("/")[0] for problem in index.problems()} == {"candidates", "responses-b"}
    assert damaged.name in str(index.problems())
    found = by_prompt(index, "responses-a")
    assert len(found) == 6
    assert all(len(rows) == 1 for rows in found.values())  # by the selections, without their images
    assert [len(rows) for rows in by_prompt(index, "candidates").values()] == [0, 0, 0, 2, 2, 2]


def test_what_was_made_again_replaces_what_was_read(tmp_path, made):
    folder = tmp_path / "run"
    made.run(folder, range(4))
    index = read(Run(folder))
    for path in folder.glob("*/*.parquet"):
        path.unlink()
    made.run(folder, range(2))
    assert index.refresh()
    index.refresh()
    while index.step():
        pass
    assert len(index) == 2
    shutil.rmtree(folder)
    with pytest.raises(PrefmillError, match="cannot read"):
        index.refresh()
    assert len(index) == 2  # what was read stays


def test_images_and_pairs_without_prompts_are_entries_of_their_own(tmp_path, made):
    pictures = [Candidate(content_id("c", n), None, 16, 16, made.picture(9), "m") for n in range(2)]
    made.stage(tmp_path, "candidates", pictures)
    pairs = [Pair(content_id("p", n), content_id("c", n), "q", "good", "bad") for n in (1, 0, 5)]
    made.stage(tmp_path, "pairs", pairs)
    assert by_prompt(read(Run(tmp_path)), "pairs") == {
        content_id("c", 0): [content_id("p", 0)],
        content_id("c", 1): [content_id("p", 1)],
        content_id("c", 5): [content_id("p", 5)],  # its image is not in the run
    }


def test_the_layout_agrees_with_what_stages_declare(run):
    from prefmill.pipeline.stages.catalogue import STAGES

    for stage in STAGES:
        for folder in (stage.name, f"{stage.name}-one"):
            kind = kind_of(folder)
            assert kind is not None, stage.name
            assert kind.record is stage.output
    assert {kind.name for kind in KINDS} == {stage.name for stage in STAGES}
    assert kind_of("training") is None
    assert kind_of("_set-aside") is None
