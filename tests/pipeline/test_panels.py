"""Panels and joins: the right rows together, read where they are needed, with no text kept between."""

import random

import pytest
from prefmill.pipeline import store
from prefmill.pipeline.declaration import Inputs
from prefmill.pipeline.records import Candidate, Instruction, Prompt, Response, Score
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.sources import Groups, read_rows
from prefmill.pipeline.stages.answer import questions
from prefmill.pipeline.stages.judge import JudgeConfig, panels
from prefmill.pipeline.stages.pair import judged_panels
from prefmill.pipeline.store import Run

COUNT = 12
FOLDERS = {"responses": ("responses-a", "responses-b", "responses-none")}


@pytest.fixture
def run(tmp_path):
    """Answers of two responders: one leaves some out, the other answers out of order and some twice."""

    def write(folder, kind, rows, size=5):
        (tmp_path / folder).mkdir()
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            write_shard(tmp_path / folder, start, start + len(part), kind, part, Footer(""))

    numbers = list(range(COUNT))
    write("prompts", Prompt, [Prompt(f"p{n}", n + 1, f"prompt {n}", str(n)) for n in numbers])
    owners = [None if n == 3 else f"p{n}" for n in numbers]
    write("candidates", Candidate, [Candidate(f"c{n}", owners[n], 1, 1, b"%d" % n, "m") for n in numbers])
    write("instructions", Instruction, [Instruction(f"i{n}", f"c{n}", f"ask {n}", "field") for n in numbers])

    def answer(name, number, extra=""):
        return Response(f"{name}{number}{extra}", f"c{number}", f"i{number}", name, f"{name} says {number}{extra}")

    shuffled = random.Random(1).sample(numbers, COUNT)
    first = [answer("a", n) for n in numbers if n % 4]
    second = [answer("b", n) for n in shuffled] + [answer("b", 5, "again"), answer("b", 99)]
    write("responses-a", Response, first)
    write("responses-b", Response, second)
    write("response_scores", Score, [Score(row.id, "judge", float(len(row.text))) for row in (*first, *second[::2])])
    return Run(tmp_path)


def test_a_panel_holds_the_answers_of_all_responders_in_their_order(run):
    source = judged_panels(Inputs(run, None, FOLDERS))
    whole = source.read(0, COUNT)
    assert len(source) == len(whole) == COUNT
    assert [panel.instruction.id for panel in whole] == [f"i{n}" for n in range(COUNT)]
    assert [[answer.response.id for answer in panel.answers] for panel in whole[4:7]] == [
        ["b4"],
        ["a5", "b5", "b5again"],
        ["a6", "b6"],
    ]
    assert all(answer.response.instruction_id == panel.instruction.id for panel in whole for answer in panel.answers)
    scores = {row.subject_id: row.value for row in run.dataset("response_scores", Score)}
    assert all(answer.score == scores.get(answer.response.id) for panel in whole for answer in panel.answers)
    assert any(answer.score is None for panel in whole for answer in panel.answers)
    assert [*source.read(0, 5), *source.read(5, 9), *source.read(9, COUNT)] == whole
    assert source.keys(5, 7) == ["i5 a5 b5 b5again", "i6 a6 b6"]


def test_the_judge_gets_the_prompt_where_it_asks_for_it(run):
    inputs = [Inputs(run, JudgeConfig(context=context), FOLDERS) for context in ("instruction", "prompt")]
    without, with_prompts = (panels(each).read(2, 5) for each in inputs)
    assert [panel.prompt for panel in with_prompts] == ["prompt 2", None, "prompt 4"]
    assert [panel.prompt for panel in without] == [None] * 3
    assert all(answer.score is None for panel in without for answer in panel.answers)


def test_the_index_of_panels_is_made_once_for_the_judge_and_the_pairs(run, monkeypatch):
    read = []
    real = store.Dataset.column
    monkeypatch.setattr(store.Dataset, "column", lambda self, name: read.append((self.name, name)) or real(self, name))
    shared = {}
    panels(Inputs(run, JudgeConfig(), FOLDERS, shared)).read(0, COUNT)
    judged_panels(Inputs(run, None, FOLDERS, shared)).read(0, COUNT)
    assert read.count(("responses-a", "id")) == read.count(("responses-b", "instruction_id")) == 1


def test_an_image_that_a_batch_asks_about_more_than_once_is_read_once(run, tmp_path, monkeypatch):
    asked = [Instruction(f"x{n}", f"c{n % 3}", "ask", "field") for n in (7, 2, 1, 4, 0)]
    write_shard(tmp_path / "instructions", COUNT, COUNT + 5, Instruction, asked, Footer(""))
    source = questions(Inputs(run))
    read = []
    real = store.Dataset.read
    monkeypatch.setattr(
        store.Dataset,
        "read",
        lambda self, start, stop: read.append((self.name, start, stop)) or real(self, start, stop),
    )
    found = source.read(COUNT, COUNT + 5)
    assert [question.image for question in found] == [b"1", b"2", b"1", b"1", b"0"]
    assert read == [("instructions", COUNT, COUNT + 5), ("candidates", 0, 3)]


def test_groups_keep_the_order_of_owners_and_of_members():
    groups = Groups(["x", "y", "z"], ["z", "x", None, "z", "w", "x", "z"])
    assert [groups.of(number) for number in range(3)] == [[1, 5], [], [0, 3, 6]]
    assert [Groups(["x"], []).of(0), len(Groups([], ["x"]).members)] == [[], 0]


def test_rows_are_read_in_the_order_of_the_file_whatever_is_asked(run):
    dataset = run.dataset("prompts", Prompt)
    assert {row: prompt.id for row, prompt in read_rows(dataset, [7, 2, 3, 11, 2]).items()} == {
        2: "p2",
        3: "p3",
        7: "p7",
        11: "p11",
    }
    assert read_rows(dataset, []) == {}
