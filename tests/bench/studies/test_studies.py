"""Studies say what the numbers say: shares, agreement and differences by hand, and intervals by the normal law."""

import csv
import math

import numpy as np
import pytest
import torch
from prefmill.bench.hallucination import PolicyAnswers
from prefmill.bench.selection import JudgedCandidates
from prefmill.bench.studies import image_selection
from prefmill.bench.studies.answer_similarity import similarity_study
from prefmill.bench.studies.image_selection import agreement_study, guidance_study, same_seed_study, selection_study
from prefmill.bench.studies.preference_training import Trained, control_study, junk_study, pairs_study
from prefmill.bench.studies.study import bootstrap, write_study
from prefmill.engine.settings import EngineSettings
from prefmill.micro.measure.hallucination import Chair, Pope
from prefmill.micro.world.scenes import sample_scenes
from prefmill.pipeline.records import Instruction, Prompt, Response
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run


def judged(exact, scores, topics=None) -> JudgedCandidates:
    exact, scores = np.array(exact, dtype=bool), np.array(scores, dtype=float)
    scenes = sample_scenes("dev", len(exact), 0)
    images = np.zeros((*exact.shape, 32, 32, 3), np.uint8)
    names = topics or ["play"] * len(exact)
    return JudgedCandidates(scenes, ["x"] * len(exact), names, (5.0, 7.0, 9.0, 11.0), images, exact, scores)


def test_the_interval_is_that_of_the_normal_law():
    values = np.random.default_rng(1).normal(2.0, 3.0, 2000)
    found, error = bootstrap(values), values.std() / math.sqrt(2000)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)
    centred = bootstrap(values - values.mean())
    assert centred.low < 0 < centred.high


def test_guidance_shares_are_counted_per_topic():
    runs = [
        judged([[1, 0, 0, 0]] * 3, [[9, 0, 0, 0], [0, 9, 0, 0], [0, 9, 0, 0]], ["home", "home", "play"]),
        judged([[1, 1, 0, 0]], [[0, 9, 0, 0]], ["play"]),
    ]
    study = guidance_study(runs)
    share = {(row["topic"], row["guidance"]): row["share"] for row in study.rows}
    assert share["home", 5.0] == 0.5
    assert share["play", 7.0] == 1.0
    assert share["all", 7.0] == 0.75
    assert {row["guidance"]: row["exact"] for row in study.rows} == {5.0: 1.0, 7.0: 0.25, 9.0: 0.0, 11.0: 0.0}
    assert "picks guidance 7 most often, for 0.750" in study.sentence


def test_agreement_is_the_share_of_the_top_in_common(monkeypatch):
    orders = {"clip": [[4, 3, 2, 1], [1, 2, 3, 4]], "blip-matching": [[3, 4, 2, 1], [4, 3, 2, 1]]}
    monkeypatch.setattr(image_selection, "micro_scores", lambda run, name, settings: np.array(orders[name]))
    study = agreement_study([judged([[0] * 4] * 2, [[4, 3, 2, 1]] * 2)], EngineSettings())
    share = {(row["scorers"], row["top"]): row["share"] for row in study.rows}
    assert [share["reward & clip", top] for top in (1, 2, 3)] == [0.5, 0.5, round((1 + 2 / 3) / 2, 4)]
    assert [share["reward & blip-matching", top] for top in (1, 2, 3)] == [0.5, 1.0, 1.0]
    assert [share["reward & clip & blip-matching", top] for top in (1, 2)] == [0.0, 0.5]
    chance = {(row["scorers"], row["top"]): row["chance"] for row in study.rows}
    assert chance["reward & clip", 2] == 0.5
    assert chance["reward & clip & blip-matching", 3] == 0.5625


def test_selection_is_held_against_chance_clip_and_the_best_fixed_scale(monkeypatch):
    exact = [[1, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]
    reward = [[9, 0, 0, 0], [0, 0, 0, 9], [9, 0, 0, 0], [0, 9, 0, 0]]
    wrong = [[0, 9, 0, 0], [9, 0, 0, 0], [9, 0, 0, 0], [0, 9, 0, 0]]
    monkeypatch.setattr(image_selection, "micro_scores", lambda run, name, settings: np.array(wrong))
    study = selection_study([judged(exact, reward)], EngineSettings())
    shares = {row["picked by"]: row["share"] for row in study.rows}
    assert shares["image reward"] == 0.75
    assert shares["clip"] == 0.25
    assert shares["chance"] == 0.5
    assert shares["guidance 5 always"] == 0.5
    assert shares["possible"] == 0.75
    assert {row["picked by"]: row["minus_chance"] for row in study.rows}["image reward"] == 0.25
    assert "than CLIP by 0.500" in study.sentence


def test_one_noise_is_compared_with_noise_of_their_own():
    own = judged([[1, 0, 0, 0]] * 4, [[9, 0, 0, 0]] * 4)
    one = judged([[1, 1, 1, 1], [0, 0, 0, 0]] * 2, [[9, 0, 0, 0]] * 4)
    study = same_seed_study([own], [one])
    found = {(row["candidates"], row["measure"]): row["share"] for row in study.rows}
    assert found["own noise", "gain"] == 0.75
    assert found["one noise", "gain"] == 0.0
    assert found["one noise", "groups with right and wrong"] == 0.0
    assert study.sentence.startswith("Selection gains 0.750 [0.750, 0.750] more")


def answers(wrong) -> PolicyAnswers:
    return PolicyAnswers([], wrong, Chair(0.0, 0.25, 0.9), Pope(0.8, 0.7, 0.9, 0.8, 0.6))


def test_pairs_study_orders_sizes_and_says_whether_hallucination_falls():
    falling = [[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]]
    trained = [
        Trained(f"{size} of the pairs", seed, 100 * size, answers([bool(one) for one in wrong]))
        for size, wrong in enumerate(falling)
        for seed in (1, 2)
    ]
    study = pairs_study(trained)
    assert [row["chair_s"] for row in study.rows] == [1.0, 0.75, 0.25]
    assert [row["pairs"] for row in study.rows] == [0, 100, 200]
    assert study.rows[0]["object_recall"] == 0.9
    assert ", monotone" in study.sentence
    assert "is -0.750" in study.sentence
    assert "not monotone" in pairs_study(trained[::-1]).sentence
    assert "3 seeds" not in study.title


def test_control_study_tests_every_training_of_a_seed_against_the_untrained_policy():
    said = {"nothing": [1] * 9 + [0], "preferences": [0] * 9 + [0], "exchanged": [1] * 9 + [1]}
    trained = [
        Trained(name, seed, 0 if name == "nothing" else 90, answers([bool(one) for one in wrong]))
        for seed in (1, 2)
        for name, wrong in said.items()
    ]
    study = control_study(trained)
    assert [(row["seed"], row["trained on"]) for row in study.rows[2:4]] == [(1, "exchanged"), (2, "nothing")]
    assert [row["chair_s"] for row in study.rows[:3]] == [0.9, 0.0, 1.0]
    # nine of nine changes in one direction: twice two to the power of minus nine
    tests = [(row["mended"], row["broken"], row["mcnemar_p"]) for row in study.rows[:3]]
    assert tests == [(0, 0, 1.0), (9, 0, 0.0039), (0, 1, 1.0)]
    assert "on preferences changes CHAIR_s by -0.900" in study.sentence
    assert "on exchanged changes CHAIR_s by 0.100" in study.sentence
    assert "seed by seed -0.900 (p 0.0039), -0.900 (p 0.0039)" in study.sentence


def test_junk_study_compares_the_last_two_kinds():
    kinds = {"without junk": [0, 0], "by the policy": [0, 1], "as they come": [1, 1]}
    trained = [Trained(name, 1, 10, answers([bool(one) for one in wrong])) for name, wrong in kinds.items()]
    assert "pairs as they come minus that on pairs by the policy is 0.500" in junk_study(trained).sentence


def test_similarity_is_measured_within_instructions_and_between_prompts(tmp_path):
    rows = {
        "prompts": [Prompt(f"p{n}", n, text, "s") for n, text in enumerate(("a b c d", "a b c d", "e f g h"))],
        "instructions": [Instruction("i", "c", "describe", "field"), Instruction("j", "c", "is there a ?", "field")],
        "responses-a": [Response("1", "c", "i", "m", "one two three"), Response("2", "c", "j", "m", "yes it is")],
        "responses-b": [Response("3", "c", "i", "m", "one two three"), Response("4", "c", "j", "m", "no it cannot")],
    }
    for name, records in rows.items():
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name, 0, 1, type(records[0]), records, Footer("w", ()))
        Run(tmp_path).write_manifest(name, {"complete": True})
    means = {row["of"]: row["mean"] for row in similarity_study([Run(tmp_path)]).rows}
    assert means["descriptions of one image"] == 1.0
    assert means["yes/no answers"] == 0.0
    assert means["prompts"] == pytest.approx(1 / 3, abs=0.04)  # one of the three pairs is alike


def test_a_study_is_a_table_a_picture_and_a_sentence(tmp_path):
    study = guidance_study([judged([[1, 0, 0, 0]] * 3, [[9, 0, 0, 0]] * 3)])
    table, picture, text = write_study(study, tmp_path, "prefmill study guidance")
    with table.open() as file:
        assert len(list(csv.DictReader(file))) == len(study.rows)
    assert picture.read_bytes().startswith(b"\x89PNG")
    sentence, _, made = text.read_text().partition("\n\n")
    assert sentence == study.sentence
    assert made.startswith("prefmill study guidance; 20")
    assert f"torch {torch.__version__}" in made
