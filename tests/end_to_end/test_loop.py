"""The main job on real input: prompts to a trained adapter, with tiny random checkpoints of the real classes."""

import json

import pytest
from prefmill.base.progress import Progress
from prefmill.engine.images import decode_image
from prefmill.pipeline.execute.local import run_tasks
from prefmill.pipeline.records import Candidate, Instruction, Pair, Prompt, Response, Score, Selection
from prefmill.pipeline.store import Run
from prefmill.pipeline.synthesis import synthesize, tasks_of
from prefmill.recipes.catalogue import tiny
from prefmill.recipes.recipe import Recipe
from prefmill.recipes.settings import override


@pytest.fixture(scope="module")
def loop(shared, command, tmp_path_factory):
    """The ten real prompts through the whole loop, two training steps included."""
    folder = tmp_path_factory.mktemp("loop") / "run"
    prompts = shared / "data" / "pdsdpo-sample" / "prompts.jsonl"
    result = command("run", "tiny", "--prompts", prompts, "--to", folder, "--set", "train.max_steps=2", "--json")
    return Run.open(folder), result


def test_ten_real_prompts_become_forty_candidates_at_the_papers_settings(loop, shared):
    run, _ = loop
    rows = [json.loads(line) for line in (shared / "data/pdsdpo-sample/prompts.jsonl").read_text().splitlines()]
    prompts = list(run.dataset("prompts", Prompt))
    assert [(p.source, p.text, p.topic, p.instructions) for p in prompts] == [
        (row["id"], row["text"], row["topic"], (row["instruction"],)) for row in rows
    ]
    candidates = list(run.dataset("candidates", Candidate))
    assert [(c.prompt_id, c.guidance, c.seed) for c in candidates] == [
        (prompt.id, guidance, prompt.index * 1000 + number)
        for prompt in prompts
        for number, guidance in enumerate((5.0, 7.0, 9.0, 11.0), start=1)
    ]
    assert len({decode_image(c.image).tobytes() for c in candidates}) == 40


def test_every_candidate_is_scored_and_the_best_goes_on(loop):
    run, _ = loop
    scores = {score.subject_id: score.value for score in run.dataset("image_scores", Score)}
    candidates = list(run.dataset("candidates", Candidate))
    assert scores.keys() == {candidate.id for candidate in candidates}
    selections = list(run.dataset("selections", Selection))
    assert len(selections) == 10
    for selection in selections:
        own = sorted((scores[c.id] for c in candidates if c.prompt_id == selection.prompt_id), reverse=True)
        assert scores[selection.image_id] == own[0]
        assert selection.margin == pytest.approx(own[0] - own[1])


def test_answers_are_judged_and_best_and_worst_are_paired(loop):
    run, _ = loop
    instructions = {row.id: row for row in run.dataset("instructions", Instruction)}
    assert all(row.source == "field" for row in instructions.values())
    answers = {row.id: row for name in "abc" for row in run.dataset(f"responses-{name}", Response)}
    scores = {row.subject_id: row for row in run.dataset("response_scores", Score)}
    assert all(len(score.attributes) == 19 for score in scores.values())
    pairs = list(run.dataset("pairs", Pair))
    assert pairs
    rejected_by_policy = {reject.subject_id for reject in run.dataset("pairs", Pair).rejects()}
    for pair in pairs:
        question = answers[pair.chosen_id].instruction_id
        assert pair.instruction == instructions[question].text
        fit = [r for r in answers.values() if r.instruction_id == question and r.id not in rejected_by_policy]
        values = sorted(scores[response.id].value for response in fit)
        assert (scores[pair.chosen_id].value, scores[pair.rejected_id].value) == (values[-1], values[0])
        assert pair.margin == pytest.approx(values[-1] - values[0])


def test_the_adapter_is_trained_on_these_pairs(loop):
    run, result = loop
    adapter = run.folder / "training" / "adapter"
    assert (adapter / "adapter_model.safetensors").stat().st_size > 1000
    manifest = json.loads((run.folder / "training" / "manifest.json").read_text())
    assert manifest["steps"] == 2
    assert manifest["backend"]["engine"].startswith("deepspeed.")
    assert manifest["stages"]["pairs"]["fingerprint"] == run.manifest("pairs")["fingerprint"]
    assert manifest["stages"]["candidates"]["models"] == run.manifest("candidates")["models"]
    assert result["stages"]["pairs"]["outputs"] == len(run.dataset("pairs", Pair))


def test_the_report_shows_the_run_and_escapes_what_models_wrote(loop):
    run, result = loop
    page = (run.folder / "report.html").read_text()
    assert result["report"].endswith("report.html")
    assert page.count("data:image/jpeg;base64,") == 40
    assert '<section id="training">' in page
    assert "Mean score of the images at each scale" in page
    assert "random weights" in page
    wild = [r.text for name in "abc" for r in run.dataset(f"responses-{name}", Response) if "<" in r.text]
    assert all(text not in page for text in wild)


def test_the_same_command_again_changes_nothing(loop, command):
    run, result = loop
    files = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*.parquet")}
    again = command("run", "--to", run.folder, "--set", "train.max_steps=2", "--json")
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*.parquet")} == files
    assert again["stages"] == result["stages"]


def test_two_hundred_wild_prompts_pass_the_prompt_stage_unharmed(shared, tmp_path):
    source = shared / "data" / "refl-prompts.json"
    config = override(tiny(), [f"prompts.path={source}", "prompts.limit=200"])
    with Run.writing(tmp_path) as run:
        synthesize_prompts_only(run, config)
    texts = [row["text"] for row in json.loads(source.read_text())[:200]]
    assert [prompt.text for prompt in run.dataset("prompts", Prompt)] == texts


def synthesize_prompts_only(run: Run, config: Recipe):
    run_tasks(run, [task for task in tasks_of(run, config) if task.name == "prompts"], config.executor, Progress())


def test_the_same_seed_mode_gives_a_prompt_one_noise(tmp_path):
    (tmp_path / "prompts.txt").write_text("a red kite\na blue boat\n")
    settings = [f"prompts.path={tmp_path / 'prompts.txt'}", "generate.seeds=same", "generate.steps=2"]
    with Run.writing(tmp_path / "run") as run:
        synthesize(run, override(tiny(), settings), Progress())
    assert [c.seed for c in run.dataset("candidates", Candidate)] == [1001] * 4 + [2001] * 4
