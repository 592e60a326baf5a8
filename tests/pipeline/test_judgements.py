"""Several judges in a run: rows of their own, one score, their agreement; and what becomes of those that fail."""

import json
import re

import numpy as np
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.cli.show import show_command
from prefmill.engine.images import encode_image
from prefmill.engine.responders.catalogue import RESPONDERS, ResponderBackend
from prefmill.engine.responders.interface import Answer, Failure, Responder
from prefmill.pipeline.records import Candidate, Instruction, Judgement, Pair, Response, Score
from prefmill.pipeline.report import write_report
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run
from prefmill.pipeline.synthesis import SynthesisConfig, synthesize, tasks_of
from prefmill.recipes.recipe import Recipe
from prefmill.recipes.settings import override, validated

INSTRUCTIONS = [Instruction(f"i{n}", f"c{n}", "What does the picture show?", "field") for n in range(3)]
ANSWERS = {
    "a": ["A red kite over the beach.", "Two dogs that run in the park.", "A very long train on an old bridge."],
    "b": ["There is a kite, red, in a very blue sky.", "One cat.", "Boats."],
    "c": ["Nothing of interest here, I fear, but look again.", "A dog and one more.", "A train crosses a bridge."],
}


COUNTS = {"complete": True, "inputs": 3, "outputs": 3, "rejects": {}, "models": [], "notices": []}
COUNTS |= {"seconds": 0.0, "cost": None}


class Counting(Responder):
    """Rates by words (up to 10), from few or from many; fails where it is shown a word it does not like."""

    def __init__(self, model):
        self.key, self.fewest, self.dislikes = f"{model}@1", model == "terse", model.partition("-")[2]
        self.requests = 0

    def answer(self, requests, sampling, schema=None):
        assert all(len(request.images) == 1 for request in requests)
        self.requests += len(requests)
        return [self._reply(request.text) for request in requests]

    def _reply(self, text):
        answer = re.findall(r"\[\[answer \w+\]\]\n(.*?)\n\[\[end", text, re.S)[0]
        if self.dislikes and self.dislikes in answer:
            return Failure("http_500", "gave up")
        words = min(len(answer.split()), 10)
        return Answer(json.dumps({"reason": "words", "score": 11 - words if self.fewest else words}), "stop", 7)

    def keep_in(self, folder):
        self.folder = folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Imported images and answers; judges are run by a backend of their own."""
    backend = ResponderBackend(
        lambda choice, settings, adapter: Counting(choice.model), lambda choice: "counting-1", False
    )
    monkeypatch.setitem(RESPONDERS, "counting", backend)
    picture = encode_image(np.zeros((8, 8, 3), np.uint8))
    images = [Candidate(f"c{n}", None, 8, 8, picture if n < 2 else b"broken", "m") for n in range(3)]
    folders = {"candidates": (Candidate, images), "instructions": (Instruction, INSTRUCTIONS)}
    for name, texts in ANSWERS.items():
        rows = [Response(f"{name}{n}", f"c{n}", f"i{n}", "m", text) for n, text in enumerate(texts)]
        folders[f"responses-{name}"] = (Response, rows)
    with Run.writing(tmp_path / "run") as run:
        for folder, (kind, rows) in folders.items():
            (run.folder / folder).mkdir()
            write_shard(run.folder / folder, 0, len(rows), kind, rows, Footer(""))
            run.write_manifest(folder, {"config": {"imported": {}}, "fingerprint": folder, **COUNTS})
        yield run


def recipe(weights, *models):
    judges = [{"name": model, "model": model, "backend": "counting", "batch_size": 4} for model in models]
    values = {"judges": judges, "judge": {"mixture": weights}, "pair": {"same_language": False, "minimum_words": 1}}
    return validated(Recipe, values | {"train": None})


def test_judges_have_rows_of_their_own_and_one_score_is_made_of_them(run, capsys):
    synthesize(run, recipe({"wordy": 3.0, "terse": 1.0}, "wordy", "terse"), Progress())
    rows = {name: list(run.dataset(f"judgements-{name}", Judgement)) for name in ("wordy", "terse")}
    assert [row.subject_id for row in rows["wordy"]] == ["a0", "b0", "c0", "a1", "b1", "c1"]
    assert {row.reason for row in rows["wordy"]} == {"words"}
    # the third image cannot be seen: every answer about it is a reject of both judges, and of the mixture
    rejects = list(run.dataset("judgements-wordy", Judgement).rejects())
    assert [(reject.subject_id, reject.reason) for reject in rejects] == [
        (f"{name}2", "image_unreadable") for name in "abc"
    ]
    scores = {row.subject_id: row for row in run.dataset("response_scores", Score)}
    assert set(scores) == {"a0", "b0", "c0", "a1", "b1", "c1"}
    # the two are opposites: what is left is (3 - 1) / 4 of the wordy one's standardised scores, 6, 10, 9 words
    z = (np.array([6.0, 10.0, 9.0]) - 25 / 3) / np.std([6.0, 10.0, 9.0])
    assert [scores[answer].value for answer in ("a0", "b0", "c0")] == pytest.approx(z / 2)
    assert scores["b0"].attributes == {"wordy": 10.0, "terse": 1.0}
    assert {reject.reason for reject in run.dataset("response_scores", Score).rejects()} == {"unjudged"}
    chosen = {pair.image_id: (pair.chosen_id, pair.rejected_id) for pair in run.dataset("pairs", Pair)}
    assert chosen == {"c0": ("b0", "a0"), "c1": ("a1", "b1")}
    expected = {"panels": 2, "kendall_tau": -1.0, "spearman": -1.0, "same_best": 0.0, "same_worst": 0.0}
    assert run.manifest("response_scores")["measures"] == {"agreement": {"wordy and terse": expected}}
    assert run.manifest("judgements-wordy")["usage"]["requests"] == 6
    silent = "scored no answer to 1 instructions: left out there"
    assert run.manifest("response_scores")["notices"] == [f"terse {silent}", f"wordy {silent}"]
    page = write_report(run).read_text()
    assert "<h2>Agreement in response_scores</h2>" in page
    assert '<td>wordy and terse</td><td class="number">2</td><td class="number">-1</td>' in page
    show_command(run.folder, None, False, 3, False)
    assert "response_scores: agreement of wordy and terse: panels 2, kendall tau -1" in capsys.readouterr().out


def test_weights_are_changed_without_asking_anybody_again(run):
    first = recipe({"wordy": 1.0, "terse": 0.0}, "wordy", "terse")
    synthesize(run, first, Progress())
    tasks = {task.name: task for task in tasks_of(run, first)}
    assert tasks["judgements-wordy"].config["runtime"] == "counting-1"
    other = {task.name: task for task in tasks_of(run, override(first, ["judge.mixture.terse=2"]))}
    same = [name for name in tasks if tasks[name].fingerprint() == other[name].fingerprint()]
    assert same == ["judgements-wordy", "judgements-terse", "pairs"]
    with pytest.raises(PrefmillError, match="mixture was"):
        synthesize(run, override(first, ["judge.mixture.terse=2"]), Progress())


def test_what_one_judge_fails_at_the_others_still_judge(run):
    synthesize(run, recipe({"wordy": 1.0, "picky-cat": 1.0}, "wordy", "picky-cat"), Progress())
    assert len(run.dataset("judgements-wordy", Judgement)) == 6
    failed = [
        reject for reject in run.dataset("judgements-picky-cat", Judgement).rejects() if reject.detail == "gave up"
    ]
    assert [(reject.subject_id, reject.reason) for reject in failed] == [("b1", "http_500")]
    scored = [row.subject_id for row in run.dataset("response_scores", Score)]
    assert scored == ["a0", "b0", "c0", "a1", "c1"]
    details = {reject.subject_id: reject.detail for reject in run.dataset("response_scores", Score).rejects()}
    assert details["b1"] == "no score of picky-cat"
    assert [(pair.chosen_id, pair.rejected_id) for pair in run.dataset("pairs", Pair)] == [("b0", "a0"), ("a1", "c1")]


def test_one_judge_is_a_run_as_ever(run):
    plain = SynthesisConfig()
    assert [task.name for task in tasks_of(run, plain)] == ["response_scores", "pairs"]
    [scores, _] = tasks_of(run, plain)
    assert "judges" not in scores.config
    assert scores.checkpoints == ("RLHFlow/ArmoRM-Llama3-8B-v0.1",)


@pytest.mark.parametrize(
    ("weights", "models", "message"),
    [
        ({"wordy": 1.0}, (), "weighs wordy, and judges names none"),
        ({}, ("wordy",), "weighs no judge, and judges names wordy"),
        ({"wordy": 1.0}, ("wordy", "terse"), "give every judge one weight"),
        ({"wordy": -1.0}, ("wordy",), "weights are 0 or more"),
        ({"wordy": 0.0}, ("wordy",), "one of them is more"),
        ({"wordy": 1.0}, ("wordy", "wordy"), "share a name|one weight"),
    ],
)
def test_judges_and_weights_belong_together(weights, models, message):
    with pytest.raises(PrefmillError, match=message):
        recipe(weights, *models)
