"""Loops of one's own: other stages, other branches, several generators, in one file and without a change elsewhere."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.pipeline.declaration import Inputs, StageDeclaration
from prefmill.pipeline.loop import Loop
from prefmill.pipeline.pair_policy import PairPolicy
from prefmill.pipeline.prompts import PromptsConfig
from prefmill.pipeline.records import Candidate, Pair, Prompt, Reject, Score, content_id
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.sources import DatasetSource, ListSource
from prefmill.pipeline.stage import Stage
from prefmill.pipeline.stages.prompts import STAGE as PROMPTS
from prefmill.pipeline.store import Run
from prefmill.pipeline.summary import record_type_of, stage_names, summarize
from prefmill.pipeline.synthesis import SynthesisConfig, plan_run, remake_from, synthesize, tasks_of
from prefmill.recipes.recipe import BaseRecipe, Recipe, recipe_class_of
from pydantic import BaseModel, ConfigDict


class DrawConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    stroke: int = 1


class Draw(Stage[Prompt, Candidate]):
    def __init__(self, config):
        self.config = config

    def compute(self, prepared):
        return [
            Candidate(content_id("drawn", prompt.id, self.config.name), prompt.id, 1, 1, b"x", self.config.name)
            for prompt in prepared
        ]


class RateConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = 1.0


class Rate(Stage[Candidate, Score]):
    def __init__(self, config):
        self.weight = config.weight

    def compute(self, prepared):
        return [Score(row.id, "rate", self.weight * int(row.id[:4], 16)) for row in prepared]


class Annotate(Stage[Score, Score]):
    """Says more of what was scored: VisionPrefer's branch."""

    def compute(self, prepared):
        return [Score(row.subject_id, "annotator", -row.value, attributes={"fidelity": row.value}) for row in prepared]


@dataclass(frozen=True)
class Rivals:
    prompt: str
    annotations: tuple[Score, ...]


class Compare(Stage[Rivals, Pair]):
    def compute(self, prepared):
        return [self._pair(rivals) for rivals in prepared]

    def _pair(self, rivals):
        if len(rivals.annotations) < 2:
            return Reject(rivals.prompt, COMPARE.name, "alone")
        worst, best = sorted(rivals.annotations, key=lambda row: row.value)[:: len(rivals.annotations) - 1]
        identity = content_id("pair", best.subject_id, worst.subject_id)
        return Pair(identity, best.subject_id, rivals.prompt, best.subject_id, worst.subject_id)


DRAW = StageDeclaration(
    name="drawings",
    output=Candidate,
    setting="generators",
    reads=(PROMPTS,),
    source=lambda inputs: DatasetSource(inputs.rows(PROMPTS)),
    build=lambda settings, engine: Draw(settings),
    unit="prompts",
    remedy="name some in `generators`",
)


def all_drawings(inputs: Inputs) -> ListSource[Candidate]:
    rows = [row for dataset in inputs.instances(DRAW) for row in dataset]
    return ListSource(rows, [row.id for row in rows])


RATE = StageDeclaration(
    name="ratings",
    output=Score,
    setting="rate",
    reads=(DRAW,),
    source=all_drawings,
    build=lambda settings, engine: Rate(settings),
)
ANNOTATE = StageDeclaration(
    name="remarks",
    output=Score,
    setting="annotate",
    reads=(RATE,),
    source=lambda inputs: DatasetSource(inputs.rows(RATE), key="subject_id"),
    build=lambda settings, engine: Annotate(),
)


def rivals(inputs: Inputs) -> ListSource[Rivals]:
    owner = {row.id: row.prompt_id for dataset in inputs.instances(DRAW) for row in dataset}
    found = {prompt: [] for prompt in inputs.rows(PROMPTS).column("id")}
    for row in inputs.rows(ANNOTATE):
        found[owner[row.subject_id]].append(row)
    return ListSource([Rivals(prompt, tuple(rows)) for prompt, rows in found.items()], list(found))


COMPARE = StageDeclaration(
    name="preferences",
    output=Pair,
    setting="compare",
    reads=(PROMPTS, DRAW, ANNOTATE),
    source=rivals,
    build=lambda settings, engine: Compare(),
)


class NoSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Annotated(BaseRecipe):
    """Several generators, their images rated, the ratings annotated, and the annotations compared."""

    STAGES: ClassVar = (PROMPTS, DRAW, RATE, ANNOTATE, COMPARE)

    loop: Literal["annotated"] = "annotated"
    prompts: PromptsConfig = PromptsConfig()
    generators: tuple[DrawConfig, ...] = (DrawConfig(name="pen"), DrawConfig(name="brush"))
    rate: RateConfig = RateConfig()
    annotate: NoSettings = NoSettings()
    compare: NoSettings = NoSettings()


class Notices(Progress):
    def __init__(self):
        self.notices = []

    def notice(self, text):
        self.notices.append(text)


@pytest.fixture
def loop(tmp_path):
    (tmp_path / "prompts.txt").write_text("a kite\na red boat\ntwo dogs\n")
    return Annotated(prompts=PromptsConfig(path=str(tmp_path / "prompts.txt")))


def run_loop(folder, loop, **how):
    with Run.writing(folder) as run:
        synthesize(run, loop, Progress(), **how)
    return run


def test_a_loop_of_ones_own_runs_reads_and_is_summed_up_like_the_built_in_one(tmp_path, loop):
    run = run_loop(tmp_path / "run", loop)
    names = ["prompts", "drawings-brush", "drawings-pen", "ratings", "remarks", "preferences"]
    assert stage_names(run) == names
    assert [record_type_of(name) for name in names] == [Prompt, Candidate, Candidate, Score, Score, Pair]
    pairs = list(run.dataset("preferences", Pair))
    ratings = {row.subject_id: row.value for row in run.dataset("ratings", Score)}
    assert len(ratings) == 6
    assert len(pairs) == 3
    assert all(ratings[pair.chosen] < ratings[pair.rejected] for pair in pairs)
    stages = summarize(run)["stages"]
    assert all(stage["complete"] for stage in stages.values())
    assert all(not plan.missing and not plan.useless for plan in plan_run(run, loop))


def test_its_settings_are_found_again_by_its_name(loop):
    values = loop.model_dump(mode="json")
    assert list(values)[:5] == ["prompts", "generators", "rate", "annotate", "compare"]
    assert recipe_class_of(values) is Annotated
    assert recipe_class_of(values).model_validate(values) == loop
    assert recipe_class_of(Recipe().model_dump(mode="json")) is Recipe
    with pytest.raises(PrefmillError, match="loop 'vision-prefer', which is not known here"):
        recipe_class_of({"loop": "vision-prefer"})


def test_a_generator_is_added_beside_the_others_and_named_where_it_matters(tmp_path, loop):
    run = run_loop(tmp_path / "run", loop)
    kept = run.manifest("drawings-pen")["fingerprint"]
    more = loop.model_copy(update={"generators": (DrawConfig(name="ink"), *loop.generators)})
    with pytest.raises(PrefmillError, match=r"generators was \['pen', 'brush'\], now \['ink', 'pen', 'brush'\]"):
        run_loop(tmp_path / "run", more)
    assert len(run.dataset("drawings-ink", Candidate)) == 3
    with Run.writing(tmp_path / "run") as run:
        remake_from(run, more, "ratings", Progress())
    run = run_loop(tmp_path / "run", more)
    assert len(run.dataset("ratings", Score)) == 9
    assert run.manifest("drawings-pen")["fingerprint"] == kept


def test_a_loop_without_an_instance_of_a_stage_says_how_to_come_by_one(tmp_path, loop):
    with pytest.raises(PrefmillError, match="no generators: there are no drawings for ratings") as caught:
        run_loop(tmp_path / "run", loop.model_copy(update={"generators": ()}))
    assert caught.value.fix == "name some in `generators`"
    with pytest.raises(PrefmillError, match="no responders") as caught:
        tasks_of(Run(tmp_path / "other"), SynthesisConfig())
    assert "prefmill import --answers" in caught.value.fix


def test_a_tuple_out_of_order_or_without_settings_is_a_mistake_of_its_author():
    with pytest.raises(TypeError, match="remarks reads ratings, which does not precede it"):

        class Backwards(Loop):
            STAGES: ClassVar = (PROMPTS, DRAW, ANNOTATE, RATE)
            prompts: PromptsConfig = PromptsConfig()
            generators: tuple[DrawConfig, ...] = ()
            rate: RateConfig = RateConfig()
            annotate: NoSettings = NoSettings()

    with pytest.raises(TypeError, match="no field 'prompts'"):

        class Bare(Loop):
            STAGES: ClassVar = (PROMPTS,)


def imported(run, *folders):
    for folder in folders:
        (run.folder / folder).mkdir(exist_ok=True)
        run.write_manifest(folder, {"config": {"imported": {}}, "fingerprint": folder})


def test_imported_rows_are_left_alone_and_so_is_what_they_were_made_from(tmp_path, loop):
    with Run.writing(tmp_path / "run") as run:
        imported(run, "ratings", "drawings-pen")
        assert [task.name for task in tasks_of(run, loop)] == ["remarks", "preferences"]
        imported(run, "preferences")
        assert tasks_of(run, loop) == []


def test_what_only_says_something_of_imported_rows_is_made_where_it_can_be(tmp_path):
    with Run.writing(tmp_path) as run:
        imported(run, "candidates", "instructions", "responses-theirs")
        write_shard(tmp_path / "candidates", 0, 1, Candidate, [Candidate("c", "p", 1, 1, b"", "m")], Footer(""))
        assert [task.name for task in tasks_of(run, SynthesisConfig())] == ["response_scores", "pairs"]
        progress = Notices()
        synthesize(run, SynthesisConfig(), progress)
        assert progress.notices == ["image_scores are left out: this run holds no prompts"]
        imported(run, "prompts")
        write_shard(tmp_path / "prompts", 0, 1, Prompt, [Prompt("p", 1, "a kite", "f:1")], Footer(""))
        names = ["image_scores", "response_scores", "pairs"]
        assert [task.name for task in tasks_of(run, SynthesisConfig())] == names


class Firsts(PairPolicy):
    """A policy of one's own: the first answer is right, and the shortest of the others wrong."""

    at_least: int = 2

    def pairs(self, instruction, answers):
        if len(answers) < self.at_least:
            return [Reject(instruction.id, "pairs", "too_few_answers")]
        first, *others = [answer.response for answer in answers]
        worst = min(others, key=lambda response: len(response.text))
        identity = content_id("pair", instruction.id, first.id, worst.id)
        return [Pair(identity, instruction.image_id, instruction.text, first.text, worst.text, first.id, worst.id)]


class WithFirsts(Recipe):
    loop: Literal["firsts"] = "firsts"
    pair: Firsts = Firsts()  # pyright: ignore[reportIncompatibleVariableOverride]


def test_the_policy_is_part_of_what_pairs_depend_on(tmp_path):
    run = Run(tmp_path)
    responders = ({"name": "a", "model": "random:responder-a"},)
    plain, own = (kind.model_validate({"responders": responders}) for kind in (Recipe, WithFirsts))
    (before,), (now,) = ([task for task in tasks_of(run, loop) if task.name == "pairs"] for loop in (plain, own))
    assert now.config["settings"] == "Firsts"
    assert before.fingerprint() != now.fingerprint()
