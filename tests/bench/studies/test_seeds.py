"""Runs that studies share: made once, copied in part, and trained on by name."""

import pytest
from prefmill.base.progress import Progress
from prefmill.bench import micro_recipe as recipes
from prefmill.bench.studies import seeds
from prefmill.bench.studies.seeds import Seeds
from prefmill.micro.measure.held_out import held_out_scenes, prompt_lines
from prefmill.pipeline.records import Pair
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run
from prefmill.recipes.settings import override

PAIRS = [Pair(f"p{n}", f"i{n}", "ask", f"good {n}", f"bad {n}", f"g{n}", f"b{n}", 1.0) for n in range(3)]


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Two seeds whose runs are made by writing pairs, and which remember what they were made with."""
    made = []

    def synthesize(run, recipe, progress):
        made.append((run.folder.name, recipe))
        if not run.has("pairs"):
            (run.folder / "pairs").mkdir(exist_ok=True)
            write_shard(run.folder / "pairs", 0, len(PAIRS), Pair, PAIRS, Footer("w", ()))
            run.write_manifest("pairs", {"complete": True})

    monkeypatch.setattr(seeds, "synthesize", synthesize)
    return Seeds(tmp_path, (1, 2), 5, Progress()), made


def test_each_seed_asks_for_scenes_of_its_own(shared):
    studies, made = shared
    studies.runs()
    studies.runs("-one-noise", lambda recipe: override(recipe, ["generate.seeds=same"]))
    assert [name for name, _ in made] == ["seed-1", "seed-2", "seed-1-one-noise", "seed-2-one-noise"]
    assert [recipe.generate.seeds == "same" for _, recipe in made] == [False, False, True, True]
    for name, recipe in made:
        prompts = studies.folder / name / "prompts.jsonl"
        assert recipe.prompts.path == str(prompts)
        seed = int(name[5])
        assert prompts.read_text() == prompt_lines(held_out_scenes("test", 5, 0, seed)[0], seed)
    plain = made[0][1]
    assert plain == recipes.micro_recipe(studies.folder / "seed-1", held_out_scenes("test", 5, 0, 1)[0], 1)


def test_a_kind_of_run_begins_with_copies_of_whole_stages(shared):
    studies, _ = shared
    studies.runs()
    half = studies.folder / "seed-1-junk" / ".tmp-pairs"
    half.mkdir(parents=True)
    (half / "broken.parquet").write_bytes(b"half a copy that a kill left")
    studies.copied("-junk", ["pairs"])
    for seed in (1, 2):
        copy = Run(studies.folder / f"seed-{seed}-junk")
        assert [pair.id for pair in copy.dataset("pairs", Pair)] == ["p0", "p1", "p2"]
        assert copy.manifest("pairs") == {"complete": True}
    (studies.folder / "seed-1-junk" / "pairs" / "_manifest.json").write_text("{}")
    studies.copied("-junk", ["pairs"])
    assert Run(studies.folder / "seed-1-junk").manifest("pairs") == {}, "what is there is left alone"


def test_training_and_evaluation_are_those_of_the_seed(shared, monkeypatch):
    studies, _ = shared
    trainings, asked = [], []
    monkeypatch.setattr(seeds, "train_with_progress", lambda *given: trainings.append(given))
    monkeypatch.setattr(seeds, "evaluate_policy", lambda *given: asked.append(given))
    run = studies.runs()[1]
    monkeypatch.setattr(seeds, "EVALUATED", 7)
    untrained, trained = studies.trained("0 of the pairs", 2, None), studies.trained("1 of the pairs", 2, run)
    assert (untrained.pairs, trained.pairs, trained.seed) == (0, 3, 2)
    [(folder, output, config, _, name)] = trainings
    assert (folder, output, name) == (run.folder, run.folder / "training", "training on 1 of the pairs")
    assert config.seed == 2
    assert [given[1] for given in asked] == [None, output / "adapter"]
    assert asked[0][3] == asked[1][3] == held_out_scenes("test", 5, 7, 2)[1]
