"""Two tasks side by side: the same rows as one after the other, without a look at what was just written."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.engine.images import encode_image
from prefmill.engine.settings import EngineSettings
from prefmill.pipeline.execute.local import run_task, run_tasks
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.prompts import PromptsConfig
from prefmill.pipeline.records import Candidate, Reject, Score, Selection
from prefmill.pipeline.sources import DatasetSource, ListSource, PromptedImage
from prefmill.pipeline.stage import Stage, Task
from prefmill.pipeline.stages import score
from prefmill.pipeline.stages.answer import ResponderConfig
from prefmill.pipeline.stages.generate import GenerateConfig
from prefmill.pipeline.stages.score import ScoreConfig, ScoreStage
from prefmill.pipeline.store import Dataset, Run
from prefmill.pipeline.synthesis import SynthesisConfig, tasks_of

from .test_local import EAGER, Recorded, crashed_folders

COUNT = 23
RESPONDERS = (ResponderConfig(name="a", model="random:responder-a"),)


class Pairs(Stage[int, Selection]):
    """Two rows per input, every seventh input rejected."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at

    def compute(self, prepared):
        if self.stop_at in prepared:
            raise KeyboardInterrupt
        return list(prepared)

    def finish(self, computed):
        rows: list[Selection | Reject] = []
        for number in computed:
            if number % 7 == 3:
                rows.append(Reject(f"input-{number}", "first", "seventh"))
            else:
                rows += [Selection(f"p{number}", name, float(number)) for name in _names(number)]
        return rows

    def hand_on(self, computed):
        return [(name, float(name[1:])) for number in computed if number % 7 != 3 for name in _names(number)]


def _names(number):
    return [f"i{number}.{part}" for part in (0, 1)]


class Sums(Stage[float, Score]):
    """Scores that betray their batch, as floating point does."""

    def __init__(self):
        self.calls = []

    def compute(self, prepared):
        self.calls.append(list(prepared))
        return [Score(f"i{value}", "sums", sum(prepared) / 3) for value in prepared]


class Stored(DatasetSource[float]):
    """Counts what is read from files."""

    reads = 0

    def read(self, start, stop):
        Stored.reads += stop - start
        return super().read(start, stop)


def tasks(run, first, second, *, count=COUNT, follows="first"):
    names = [f"input-{number}" for number in range(count)]
    return [
        Task("first", Selection, lambda: ListSource(range(count), names), lambda: first, 3, fan_out=2),
        Task(
            "second",
            Score,
            lambda: Stored(run.dataset("first", Selection), lambda row: float(row.image_id[1:]), key="image_id"),
            lambda: second,
            5,
            follows=follows,
        ),
    ]


def run_both(folder, first=None, second=None, config=EAGER, progress=None, **how):
    with Run.writing(folder) as run:
        run_tasks(run, tasks(run, first or Pairs(), second or Sums(), **how), config, progress or Progress())
        return list(run.dataset("first", Selection)), list(run.dataset("second", Score))


@pytest.fixture
def expected(tmp_path):
    """Rows of the two tasks one after the other."""
    return run_both(tmp_path / "one-after-the-other", follows="")


@pytest.mark.parametrize("config", [EAGER, ExecutorConfig(commit_seconds=1000)])
def test_side_by_side_gives_the_rows_of_one_after_the_other_and_reads_no_file(tmp_path, expected, config, monkeypatch):
    monkeypatch.setattr(Stored, "reads", 0)
    progress = Recorded()
    assert run_both(tmp_path / "together", config=config, progress=progress) == expected
    assert Stored.reads == 0
    assert progress.advanced == COUNT + len(expected[1])
    manifest = Run.open(tmp_path / "together").manifest("second")
    assert (manifest["complete"], manifest["inputs"], manifest["outputs"]) == (True, 40, 40)


def test_the_second_starts_before_the_first_has_ended(tmp_path):
    second = Sums()

    class Watching(Pairs):
        def compute(self, prepared):
            if prepared[-1] == COUNT - 1:
                assert len(second.calls) >= 6
            return super().compute(prepared)

    run_both(tmp_path, Watching(), second)
    assert [len(call) for call in second.calls] == [5] * 8


def test_a_crash_at_every_file_operation_ends_in_the_same_rows_with_nothing_to_set_aside(tmp_path, monkeypatch):
    expected, points = run_both(tmp_path / "one-after-the-other", follows="", count=13), 0
    for folder in crashed_folders(tmp_path, monkeypatch, partial(run_both, count=13)):
        progress = Recorded()
        assert run_both(folder, progress=progress, count=13) == expected
        assert progress.notices == []  # no score was on disk before its image was
        points += 1
    assert points >= 40


def test_ctrl_c_keeps_both_and_the_next_run_reads_only_what_was_left_over(tmp_path, expected, monkeypatch):
    monkeypatch.setattr(Stored, "reads", 0)
    with pytest.raises(KeyboardInterrupt):
        run_both(tmp_path, Pairs(stop_at=13), config=ExecutorConfig(commit_seconds=1000))
    first, second = (Dataset(tmp_path / name, kind) for name, kind in (("first", Selection), ("second", Score)))
    assert (first.shards[-1].stop, len(first)) == (12, 20)
    assert len(second) == 20
    assert run_both(tmp_path) == expected
    assert Stored.reads == 0
    assert run_both(tmp_path, count=25)[0][:40] == expected[0]


def test_rows_of_an_earlier_run_that_were_not_scored_come_from_the_store(tmp_path, expected, monkeypatch):
    monkeypatch.setattr(Stored, "reads", 0)
    with Run.writing(tmp_path) as run, pytest.raises(KeyboardInterrupt):
        run_task(run, tasks(run, Pairs(stop_at=13), Sums())[0], EAGER, Progress())
    assert run_both(tmp_path) == expected
    assert Stored.reads == 20


def test_a_gap_in_the_first_is_filled_before_the_second_goes_on(tmp_path, expected):
    assert run_both(tmp_path) == expected
    shards = Dataset(tmp_path / "first", Selection).shards
    for shard in (shards[2], shards[-1]):
        shard.path.unlink()
    second, progress = Sums(), Recorded()
    assert run_both(tmp_path, second=second, progress=progress) == expected
    assert (second.calls, progress.notices) == ([], [])


def test_a_second_that_cannot_start_stops_the_first_before_it_works(tmp_path):
    class Unloadable(Sums):
        def __init__(self):
            raise PrefmillError("no such weights", "name others")

    first = Pairs()
    first.compute = lambda prepared: pytest.fail("the first worked for nothing")
    with Run.writing(tmp_path) as run:
        both = [tasks(run, first, None)[0], replace(tasks(run, first, None)[1], build=Unloadable)]
        with pytest.raises(PrefmillError, match="no such weights"):
            run_tasks(run, both, EAGER, Progress())


@pytest.mark.parametrize(
    ("prune", "mixture", "count"),
    [(None, {}, 12), ({"after": 1, "keep": 2}, {"clip": 30, "imagereward": 1}, 6)],
    ids=["one", "several-which-prune-too"],
)
def test_images_are_scored_as_they_were_drawn_and_as_they_are_stored(
    cache, tmp_path, monkeypatch, prune, mixture, count
):
    """The scores of a run that never decodes an image equal, in every bit, those of one that reads the store."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a kite\na red boat\ntwo dogs\n")
    config = SynthesisConfig(
        prompts=PromptsConfig(path=str(prompts)),
        generate=GenerateConfig(model="random:text-to-image", steps=2, batch_size=1, prune=prune),
        score=ScoreConfig(
            model="random:image-reward",
            mixture=mixture,
            models={"clip": "random:clip"} if mixture else {},
            batch_size=5,
        ),
        responders=RESPONDERS,
        engine=EngineSettings(device="cpu"),
    )
    found = {}
    for name in ("memory", "store"):
        with Run.writing(tmp_path / name) as run, monkeypatch.context() as patch:
            work = tasks_of(run, config)[:3]
            if name == "memory":
                patch.setattr(score, "decoded", lambda data: pytest.fail("a file was decoded"))
                run_tasks(run, work, EAGER, Progress())
            else:
                for task in work:
                    run_tasks(run, [task], EAGER, Progress())
            found[name] = list(run.dataset("image_scores", Score))
            measures = run.manifest("image_scores")["measures"]
            dropped = [reject.detail for reject in run.dataset("candidates", Candidate).rejects()]
    assert len(found["memory"]) == count
    assert found["memory"] == found["store"]
    if not mixture:
        assert measures == {}
        assert not any(row.attributes for row in found["store"])
        return
    for row in found["store"]:
        assert row.value == pytest.approx(30 * row.attributes["clip"] + row.attributes["imagereward"], abs=1e-5)
    by_prompt = [[row.attributes["clip"] for row in found["store"][start : start + 2]] for start in (0, 2, 4)]
    deviation = np.sqrt(np.mean(np.var(by_prompt, axis=1)))
    assert measures["pull"]["clip"]["deviation"] == pytest.approx(deviation, abs=1e-8)
    assert sum(part["share"] for part in measures["pull"].values()) == pytest.approx(1, abs=1e-5)
    assert measures["agreement"]["clip and imagereward"]["panels"] == 3
    assert len(dropped) == 6
    assert all("after step 1 of 2" in detail for detail in dropped)


def test_lossy_files_are_scored_as_they_are_stored(cache, tmp_path):
    config = SynthesisConfig(generate=GenerateConfig(format="jpeg"), responders=RESPONDERS)
    with Run.writing(tmp_path) as run:
        assert {task.name: task.follows for task in tasks_of(run, config)[:3]}["image_scores"] == ""


def test_a_batch_may_mix_stored_files_and_decoded_images(cache):
    """As after an interruption: the scores are those of all images in either form."""
    stage = ScoreStage(ScoreConfig(model="random:image-reward"), EngineSettings(device="cpu"))
    images = torch.randint(0, 256, (3, 40, 56, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    files = [PromptedImage(f"c{row}", encode_image(image.numpy()), "a kite") for row, image in enumerate(images)]
    decoded = [PromptedImage(f"c{row}", image, "a kite") for row, image in enumerate(images)]
    assert stage([files[0], *decoded[1:]]) == stage(files) == stage(decoded)
