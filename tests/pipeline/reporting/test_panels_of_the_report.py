"""Guidance, winners, curves and surroundings say what the rows say, and a page's size does not grow with the run."""

import json
import math

import pytest
from prefmill.pipeline import report
from prefmill.pipeline.records import Candidate, Instruction, Pair, Prompt, Reject, Response, Score, Selection
from prefmill.pipeline.report import write_report
from prefmill.pipeline.reporting.adapter_training import training_charts
from prefmill.pipeline.reporting.curves import MOST_POINTS, chart, thinned
from prefmill.pipeline.reporting.guidance import guidance_scales
from prefmill.pipeline.reporting.winners import winners
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run

MANIFEST = {"complete": True, "inputs": 1, "outputs": 4, "rejects": {}, "models": [], "seconds": 2.0, "cost": None}


def written(folder, rows, rejects=(), /, **manifest):
    for name, records in rows.items():
        (folder / name).mkdir(parents=True)
        if records:
            footer = Footer("w", tuple(rejects) if name == "pairs" else ())
            write_shard(folder / name, 0, len(records), type(records[0]), records, footer)
        Run(folder).write_manifest(name, {**MANIFEST, "config": {}, "notices": [], **manifest})
    return Run(folder)


def candidate(name, prompt, guidance):
    return Candidate(name, prompt, 8, 8, b"no picture", "draws", guidance=guidance)


def test_guidance_has_the_mean_score_its_interval_and_the_selections(tmp_path):
    scores = {"a": (5.0, 1.0), "b": (5.0, 3.0), "c": (7.5, 4.0), "d": (7.5, 8.0)}
    run = written(
        tmp_path,
        {
            "candidates": [candidate(name, "p", scale) for name, (scale, _) in scores.items()],
            "image_scores": [Score(name, "reward", value) for name, (_, value) in scores.items()],
            "selections": [Selection("p", "d", 8.0), Selection("q", "c", 4.0), Selection("r", "b", 3.0)],
        },
    )
    first, second = guidance_scales(run)
    assert (first["scale"], first["mean"], first["selected"], second["selected"]) == (5.0, 2.0, 1, 2)
    assert second["mean"] == 6.0
    # standard deviations by hand: sqrt(2) and sqrt(8), of two values each
    assert first["error"] == pytest.approx(1.96 * math.sqrt(2) / math.sqrt(2))
    assert second["error"] == pytest.approx(1.96 * math.sqrt(8) / math.sqrt(2))
    assert second["share"] == pytest.approx(2 / 3)
    assert second["from"] + second["width"] == pytest.approx(100)


def test_winners_are_counted_by_the_names_of_the_recipe(tmp_path):
    answers = {
        name: [Response(f"{name}{n}", "i", "q", f"model-{name}", "x") for n in range(3)] for name in ("my", "your")
    }
    duels = [("my0", "your0"), ("my1", "your1"), ("your2", "my2")]
    run = written(
        tmp_path,
        {
            "responses-my": answers["my"],
            "responses-your": answers["your"],
            "responses-idle": [],
            "response_scores": [Score(f"{name}{n}", "judge", n + 1.0) for name in ("my", "your") for n in range(3)],
            "pairs": [Pair(f"x{n}", "i", "?", "a", "b", *duel) for n, duel in enumerate(duels)],
        },
    )
    found = winners(run)
    assert found is not None
    assert found["names"] == ["my", "your", "idle"]
    mine, yours, idle = found["rows"]
    assert (mine["won"], mine["lost"], mine["answers"], mine["score"]) == (2, 1, 3, 2.0)
    assert (yours["rate"], idle["rate"]) == (pytest.approx(1 / 3), None)
    assert [cell["count"] for cell in found["duels"][0]["cells"]] == [0, 2, 0]
    imported = written(tmp_path / "imported", {"pairs": [Pair("x", "i", "?", "a", "b")]})
    assert winners(imported) is None


def test_a_long_line_keeps_its_peaks_and_few_points():
    points = [(float(step), 1.0) for step in range(100_000)]
    points[54_321], points[77_777] = (54_321.0, 9.0), (77_777.0, -9.0)
    kept = thinned(points)
    assert len(kept) == MOST_POINTS
    assert points[54_321] in kept
    assert points[77_777] in kept
    assert kept == sorted(kept)
    drawn = chart({"a": [(1, 2.0), (3, 4.0)], "b": [(1, 0.0)], "none": []})
    assert drawn is not None
    assert [line["points"] for line in drawn["lines"]] == ["0.0,80.0 600.0,0.0", "0.0,160.0"]


def test_the_curves_of_a_training_stand_by_their_steps(tmp_path):
    lines = [
        {"step": 10, "loss": 0.7, "rewards/chosen": 0.0, "rewards/rejected": 0.0},
        {"step": 20, "loss": 0.5, "rewards/chosen": 0.25, "rewards/rejected": -0.5},
        {"step": 20, "eval_loss": 0.6},
    ]
    (tmp_path / "training").mkdir()
    (tmp_path / "training/metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    found = training_charts(Run(tmp_path))
    assert list(found) == ["loss", "reward"]
    assert [(line["label"], line["last"]) for line in found["loss"]["lines"]] == [("training", 0.5), ("held out", 0.6)]
    assert (found["reward"]["first_step"], found["reward"]["steps"]) == (10, 20)


def test_manifests_are_linked_and_hardware_and_versions_told(tmp_path):
    run = written(
        tmp_path,
        {"prompts": [Prompt("p", 1, "x", "s")], "odd #name": []},
        hardware={"cpu": "EPYC", "cores": "2"},
        versions={"torch": "2.13.0"},
        device="cpu",
        rejects={"tie": 3},
    )
    page = write_report(run).read_text()
    assert 'href="prompts/_manifest.json"' in page
    assert 'href="odd%20%23name/_manifest.json"' in page
    assert "cpu, EPYC, 2 cores" in page
    assert "torch 2.13.0" in page
    assert "3 tie" in page
    assert '<td class="number">2</td>' in page  # four rows in two seconds
    assert "src=" not in page.replace('src="data:', "")


def long_run(folder, size):
    """A run whose every part grows with `size`: prompts, images and questions of one, answers, reasons, steps."""
    prompts = [Prompt(f"p{n}", n + 1, "prompt " * 1000, "s", f"topic {n}") for n in range(size)]
    images = [candidate(f"i{n}-{k}", f"p{n}", float(k)) for n in range(size) for k in range(1 if n else size)]
    questions = [Instruction(f"q{n}", "i0-0", "question " * 1000, "field") for n in range(size)]
    answers = [Response(f"a{n}", "i0-0", f"q{n % 3}", "m" * 5000, f"answer {n}") for n in range(size * 4)]
    run = written(
        folder,
        {
            "prompts": prompts,
            "candidates": images,
            "image_scores": [Score(image.id, "reward", 0.5) for image in images],
            "selections": [Selection(prompt.id, f"i{n}-0", 0.5) for n, prompt in enumerate(prompts)],
            "instructions": questions,
            "responses-a": answers,
            "response_scores": [Score(answer.id, "judge", float(n)) for n, answer in enumerate(answers)],
            "pairs": [
                Pair(f"x{n}", "i0-0", "?", f"chosen {n}", f"rejected {n}", f"a{n}", f"a{n + 1}") for n in range(size)
            ],
        },
        [Reject(f"z{n}", "pairs", f"reason {n}") for n in range(size)],
        notices=[f"notice {n} " * 1000 for n in range(size)],
        rejects={f"reason {n}": 1 for n in range(size)},
    )
    (folder / "training").mkdir()
    lines = [json.dumps({"step": n + 1, "loss": n % 7 / 7, "rewards/margins": n / 9}) for n in range(size * 20)]
    (folder / "training/metrics.jsonl").write_text("\n".join(lines) + "\n")
    return run


def test_the_page_is_as_large_for_a_long_run_as_for_a_longer_one(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "quality_of", lambda run: None)  # reads the texts of all, a portion at a time
    sizes = [len(write_report(long_run(tmp_path / str(size), size), shown=8).read_text()) for size in (60, 240)]
    assert sizes[1] < 1.1 * sizes[0]
    assert sizes[1] < 2_000_000
