"""The quality of real pairs and answers, before and after the policy; and limits over a run through the pair stage."""

import json
from dataclasses import asdict

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.cli.quality import quality_command
from prefmill.pipeline.execute.local import run_task
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.pair_policy import JudgedAnswer, PairPolicy
from prefmill.pipeline.quality import quality_of
from prefmill.pipeline.records import Candidate, Instruction, Pair, Prompt, Reject, Response, Score
from prefmill.pipeline.report import write_report
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.sources import Panel
from prefmill.pipeline.stages.pair import LimitedPanel, LimitedPanels, PairStage
from prefmill.pipeline.store import Run
from prefmill.pipeline.synthesis import SynthesisConfig, tasks_of

RANK = {"chosen": 2.0, "": 1.0, "rejected": 0.0}
"""ArmoRM's order of the three published answers, as scores."""


def store(folder, **stages):
    for name, (rows, kind, rejects) in stages.items():
        folder_name = name.replace("_", "-") if name.startswith("responses") else name
        (folder / folder_name).mkdir(parents=True)
        write_shard(folder / folder_name, 0, max(len(rows), 1), kind, rows, Footer("w", tuple(rejects)))
        Run(folder).write_manifest(folder_name, {"config": {"imported": {"name": "test"}}, "fingerprint": name})
    return Run(folder)


@pytest.fixture(scope="module")
def sample(shared, tmp_path_factory):
    """The thirty real answers with their published order, as a run whose pairs are still to be made."""
    folder = shared / "data" / "pdsdpo-sample"
    prompts = [json.loads(line) for line in (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [json.loads(line) for line in (folder / "responses.jsonl").read_text(encoding="utf-8").splitlines()]
    named = [(f"r{number}", row) for number, row in enumerate(rows)]
    run = store(
        tmp_path_factory.mktemp("sample"),
        prompts=([Prompt(row["id"], n, row["id"], "s", "art") for n, row in enumerate(prompts, 1)], Prompt, ()),
        candidates=([Candidate(f"{row['id']}-image", row["id"], 1, 1, b"x", "m") for row in prompts], Candidate, ()),
        instructions=(
            [Instruction(f"{row['id']}-i", f"{row['id']}-image", row["instruction"], "field") for row in prompts],
            Instruction,
            (),
        ),
        responses_imported=(
            [
                Response(name, f"{row['prompt_id']}-image", f"{row['prompt_id']}-i", row["model"], row["raw_text"])
                for name, row in named
            ],
            Response,
            [Reject("unknown", "responses-imported", "empty")],
        ),
        response_scores=([Score(name, "armorm", RANK[row["armorm_pick"]]) for name, row in named], Score, ()),
    )
    before = quality_of(run)
    (pairs,) = [task for task in tasks_of(run, SynthesisConfig()) if task.name == "pairs"]
    run_task(run, pairs, ExecutorConfig(), Progress())
    return run, before


def test_four_in_ten_published_negatives_are_junk_and_none_after_the_policy(sample):
    run, _ = sample
    quality = quality_of(run)
    assert quality.before is not None
    assert quality.after is not None
    assert (quality.before.pairs, quality.before.junk, quality.before.junk_share) == (10, 4, 0.4)
    # two empty, one fragment in another alphabet, and 720 words of repetition
    assert {name: count for name, count in quality.before.classes.items() if count} == {
        "artifact": 3,
        "length/repetition": 1,
        "fluent-different": 6,
    }
    # art-2 has nothing left to stand against its best but four words
    assert (quality.after.pairs, quality.after.junk, quality.after.junk_chosen) == (9, 0, 0)
    assert quality.rejects == {"echo": 2, "wrong_language": 1, "repetition": 1, "length": 1, "too_few_answers": 1}
    assert quality.faults == {"echo": 2, "wrong_language": 1, "repetition": 1}
    assert (quality.answers, quality.unanswered) == (30, 1)
    assert quality.after.topics == {"art": {"pairs": 9, "junk": 0}}
    assert [example.negative for example in quality.examples[:3]] == ["length/repetition", "artifact", "artifact"]


def test_before_its_pairs_are_made_a_run_says_what_blind_pairs_would_be(sample):
    _, before = sample
    assert before.after is None
    assert before.before is not None
    assert before.before.junk == 4


def test_the_command_prints_classes_and_ends_in_json(sample, capsys):
    run, _ = sample
    quality_command(run.folder, as_json=True)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    expected = json.loads(json.dumps({"run": str(run.folder), **asdict(quality_of(run))}))
    assert told == expected
    quality_command(run.folder)
    page = capsys.readouterr().out
    assert "4 (40%)" in page
    assert "art" in page
    assert "repetition: 61% of its 722 words" in page


def test_the_report_shows_the_classes_and_escapes_what_models_wrote(tmp_path):
    evil = "<script>alert('x')</script> a boat on the sea \x1b[31m"
    rows = [Pair("p", "c", "what is it?", "a red boat on the sea", evil, margin=1.0)]
    run = store(tmp_path, pairs=(rows, Pair, [Reject("row:2", "pairs", "empty_rejected")]))
    quality = quality_of(run)
    assert quality.pairs_from == "imported pairs"
    assert quality.before is not None
    assert quality.after is not None
    assert (quality.before.pairs, quality.before.classes["artifact"], quality.after.pairs) == (2, 2, 0)
    assert quality.rejects == {"empty_rejected": 1, "artifact": 1}
    manifest = {"inputs": 2, "outputs": 1, "rejects": {}, "models": [], "seconds": 0.0, "cost": None, "notices": []}
    run.write_manifest("pairs", {**run.manifest("pairs"), **manifest, "complete": True})
    page = write_report(run).read_text()
    assert "What the rejected answers are" in page
    assert "2 (100 %)" in page
    assert "<script" not in page


def test_a_run_of_neither_pairs_nor_answers_says_what_to_do(tmp_path):
    run = store(tmp_path, prompts=([Prompt("p", 1, "a kite", "s")], Prompt, ()))
    with pytest.raises(PrefmillError, match="neither pairs nor answers"):
        quality_of(run)


class Panels:
    """Twelve instructions about twelve images, answered alike from the fourth on."""

    def __init__(self, count=12):
        self.items = [self.panel(number) for number in range(count)]

    def panel(self, number):
        texts = (f"a bird of kind{min(number, 3)} sits here", "there is nothing to be seen at all")
        answers = [
            JudgedAnswer(Response(f"r{number}{side}", f"c{number}", f"i{number}", "m", text), 1.0 - side)
            for side, text in enumerate(texts)
        ]
        return Panel(Instruction(f"i{number}", f"c{number}", "what is there?", "field"), tuple(answers))

    def __len__(self):
        return len(self.items)

    def keys(self, start, stop):
        return [panel.instruction.id for panel in self.items[start:stop]]

    def read(self, start, stop):
        return self.items[start:stop]


def limited(count=12, **limits):
    topics = {f"p{number}": "art" if number < 8 else "sport" for number in range(count)}
    prompts = {f"c{number}": f"p{number}" for number in range(count)}
    policy = PairPolicy(same_language=False, **limits)
    return LimitedPanels(Panels(count), policy, prompts, topics), PairStage(policy)  # pyright: ignore[reportArgumentType]


def test_a_pair_repeated_in_the_run_becomes_a_reject_with_its_reason():
    source, stage = limited(unique="same")
    outcome = stage.compute(source.read(0, len(source)))
    assert [type(item) for item in outcome] == [Pair] * 4 + [Reject] * 8
    assert {item.reason for item in outcome if isinstance(item, Reject)} == {"repeated"}
    # in batches of any size the same
    assert [item for row in range(12) for item in stage.compute(source.read(row, row + 1))] == outcome


def test_verdicts_are_part_of_the_keys_so_that_only_what_changed_is_made_again():
    few, many = (limited(count, topic_ratio=1.0)[0] for count in (10, 12))
    keys = few.keys(0, 10), many.keys(0, 10)
    assert sum(" " in key for key in keys[0]) == 6  # of eight of art two are left beside two of sport
    assert sum(" " in key for key in many.keys(0, 12)) == 4
    changed = [row for row in range(10) if keys[0][row] != keys[1][row]]
    assert len(changed) == 2
    assert not set(changed) & {8, 9}
    assert all(
        isinstance(panel, LimitedPanel) == (" " in key)
        for panel, key in zip(many.read(0, 12), many.keys(0, 12), strict=True)
    )
    appended = limited(12, unique="same")[0].keys(0, 10), limited(10, unique="same")[0].keys(0, 10)
    assert appended[0] == appended[1]
