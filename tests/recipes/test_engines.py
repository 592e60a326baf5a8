"""Which engines a recipe asks for, and that what is missing is found, or built, before the first stage."""

import dataclasses
from typing import ClassVar

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.compile.builders.builder import Builder
from prefmill.compile.quantize.calibration import Calibration
from prefmill.engine.artifact import artifacts_in
from prefmill.engine.backends.catalogue import make_runners
from prefmill.pipeline.declaration import StageDeclaration
from prefmill.pipeline.prompts import PromptsConfig
from prefmill.pipeline.records import Prompt, Selection
from prefmill.pipeline.sources import DatasetSource
from prefmill.pipeline.stage import Stage
from prefmill.pipeline.stages.prompts import STAGE as PROMPTS
from prefmill.pipeline.store import Run
from prefmill.recipes.engine_builds import BuildOptions, build_stage, ranges_for
from prefmill.recipes.engine_refits import refit_stage
from prefmill.recipes.engine_verification import verify_stage
from prefmill.recipes.engines import engine_models, engine_problems, stage_models
from prefmill.recipes.generator_engines import calibrated, prompt_texts
from prefmill.recipes.micro import micro
from prefmill.recipes.preflight import plan_run
from prefmill.recipes.recipe import BaseRecipe
from prefmill.recipes.run import run_recipe
from prefmill.recipes.settings import override

from ..compile.conftest import toy, workshop  # noqa: F401 - a fixture

MODELS: dict[str, list] = {}
"""Loaded by a stage of the toy loop, by checkpoint."""


class ToyStage(Stage[Prompt, Selection]):
    """Scores a prompt by two networks of one module, one that has no engine, and nothing."""

    def __init__(self, config, settings):
        self.made = make_runners(_networks(), settings)
        MODELS.setdefault("loaded", []).append(settings.backend)

    @property
    def runners(self):
        return self.made

    def compute(self, prepared):
        inputs = toy().sample({"rows": len(prepared), "wide": 2}, torch.float32)
        values = self.made[0].run(inputs)["sums"].sum((1, 2)).tolist()
        return [Selection(prompt.id, prompt.id, value) for prompt, value in zip(prepared, values, strict=True)]


SEED = {"weights": 0}


def _networks():
    one = toy(SEED["weights"])
    other = type(one)("toy_other", one.module, one.forward, one.inputs, one.outputs)
    return one, other, type(one)("toy_head", one.module, one.forward, one.inputs, one.outputs, eager_only="it is small")


RATE = StageDeclaration(
    name="rated", output=Selection, setting="rate", reads=(PROMPTS,), build=ToyStage,
    source=lambda inputs: DatasetSource(inputs.rows(PROMPTS)), checkpoints=lambda settings: ("micro:text-to-image",),
)  # fmt: skip


class RatedRecipe(BaseRecipe):
    STAGES: ClassVar = (PROMPTS, RATE)

    prompts: PromptsConfig = PromptsConfig()
    rate: PromptsConfig = PromptsConfig()


@pytest.fixture
def recipe(workshop, tmp_path):  # noqa: F811
    MODELS.clear()
    (tmp_path / "prompts.txt").write_text("a red kite\na blue boat\n")
    settings = [f"prompts.path={tmp_path / 'prompts.txt'}", "engine.device=cpu", "engine.backend=onnxruntime"]
    return override(RatedRecipe(), [*settings, f"engine.artifacts={tmp_path / 'engines'}"])


class Lines(Progress):
    def __init__(self):
        self.lines, self.notices = [], []

    def line(self, text):
        self.lines.append(text)

    def notice(self, text):
        self.notices.append(text)


def test_stages_that_ask_for_engines():
    assert engine_models(micro()) == []
    recipe = override(micro(), ["engine.backend=openvino", "engine.stages.generate.backend=eager"])
    names = [model.setting for model in engine_models(recipe)]
    assert names == ["score", "responders.0", "responders.1", "responders.2", "responders.3", "judge"]
    assert [model.name for model in stage_models(recipe, {"candidates"})] == ["candidates"]


def test_a_plan_names_the_stage_and_the_command_before_anything_is_loaded(recipe, tmp_path):
    plan = plan_run(tmp_path / "run", recipe, words="mine.yaml --set x=1")
    [problem] = plan.problems
    assert problem.setting == "rate"
    assert "rated has no onnxruntime engines" in problem.message
    assert problem.fix.startswith("prefmill compile build mine.yaml --set x=1")
    assert not MODELS
    with pytest.raises(PrefmillError, match="rated has no onnxruntime engines"):
        run_recipe(tmp_path / "run", recipe)
    assert not (tmp_path / "run").exists()


def test_a_plan_names_the_network_whose_engine_does_not_fit(recipe, tmp_path):
    [model] = engine_models(recipe)
    list(build_stage(model, BuildOptions(only=("toy",))))
    [problem] = plan_run(tmp_path / "run", recipe).problems
    assert "toy_other (none was built" in problem.message
    list(build_stage(model))
    assert plan_run(tmp_path / "run", recipe).problems == ()
    for folder, _ in artifacts_in(tmp_path / "engines"):
        (folder / "weights.pt").unlink()
    assert "is damaged" in plan_run(tmp_path / "run", recipe).problems[0].message


def test_missing_engines_are_built_before_the_first_stage(recipe, workshop, tmp_path):  # noqa: F811
    progress = Lines()
    building = override(recipe, ["engine.missing=build"])
    run_recipe(tmp_path / "run", building, progress)
    assert [line.split(":")[0] for line in progress.lines if "built in" in line] == ["rated toy", "rated toy_other"]
    assert MODELS["loaded"] == ["eager", "onnxruntime"]
    manifest = Run.open(tmp_path / "run").manifest("rated")
    assert manifest["networks"] == {"toy": "onnxruntime", "toy_other": "onnxruntime", "toy_head": "eager"}
    assert manifest["notices"] == []
    assert workshop.builds == 2
    run_recipe(tmp_path / "run", building, progress)
    assert MODELS["loaded"] == ["eager", "onnxruntime"], "a finished run loads nothing"


def test_a_build_that_fails_stops_before_the_first_stage_and_says_how_to_do_without(
    recipe, workshop, tmp_path  # noqa: F811
):  # fmt: skip
    workshop.change = 1.0
    with pytest.raises(PrefmillError, match="differs from the network") as error:
        run_recipe(tmp_path / "run", override(recipe, ["engine.missing=build"]))
    assert "engine.stages.rate.backend=eager" in error.value.fix
    assert Run.open(tmp_path / "run").stages() == []


def test_what_runs_eagerly_for_want_of_an_engine_is_said_and_kept(recipe, tmp_path):
    eagerly = override(recipe, ["engine.missing=eager"])
    run_recipe(tmp_path / "run", eagerly)
    manifest = Run.open(tmp_path / "run").manifest("rated")
    assert [notice.split(" fits")[0] for notice in manifest["notices"]] == [
        "no onnxruntime engine of toy in float32",
        "no onnxruntime engine of toy_other in float32",
    ]
    assert set(manifest["networks"].values()) == {"eager"}


def test_a_run_does_not_go_on_with_what_did_not_begin_it(recipe, tmp_path):
    eagerly = override(recipe, ["engine.missing=eager"])
    run_recipe(tmp_path / "run", eagerly)
    (tmp_path / "prompts.txt").write_text("a red kite\na blue boat\na white cup\n")
    with pytest.raises(PrefmillError, match="toy by eager, now by onnxruntime"):
        run_recipe(tmp_path / "run", override(recipe, ["engine.missing=build"]))
    with pytest.raises(PrefmillError, match="backend was 'onnxruntime', now 'eager'"):
        run_recipe(tmp_path / "run", override(recipe, ["engine.backend=eager"]))


def test_reports_of_a_build_and_a_verification(recipe, workshop, tmp_path):  # noqa: F811
    [model] = engine_models(recipe)
    options = BuildOptions(ranges={"rows": (1, 4, 8), "toy_other.wide": (2, 2, 4)})
    reports = {report.network: report for report in build_stage(model, options)}
    assert [report.state for report in reports.values()] == ["built", "built", "eager"]
    assert reports["toy_head"].reason == "it is small"
    ranges = {artifact.identity.network: artifact.ranges for _, artifact in artifacts_in(tmp_path / "engines")}
    assert ranges["toy"] == {"rows": (1, 4, 8), "wide": (2, 4, 8)}
    assert ranges["toy_other"] == {"rows": (1, 4, 8), "wide": (2, 2, 4)}
    assert [report.state for report in build_stage(model, options)] == ["found", "found", "eager"]
    assert [report.state for report in build_stage(model)] == ["found", "found", "eager"], "a wider one will do"
    assert [report.state for report in verify_stage(model)] == ["verified", "verified", "eager"]
    assert [report.state for report in verify_stage(model.under("openvino"))] == ["missing", "missing", "eager"]
    assert workshop.builds == 2


def test_one_that_fails_does_not_keep_the_others(recipe, workshop):  # noqa: F811
    [model] = engine_models(recipe)

    def fail_first(path):
        if workshop.builds == 1:
            raise OSError("no")

    workshop.instead = fail_first
    assert [report.state for report in build_stage(model)] == ["failed", "built", "eager"]


def test_ranges_are_those_of_the_dimensions_a_network_has():
    given = {"rows": (1, 2, 3), "other.rows": (1, 1, 1), "toy.wide": (2, 2, 2), "length": (1, 2, 3)}
    assert ranges_for(toy(), given) == {"rows": (1, 2, 3), "wide": (2, 2, 2)}


def test_a_checkpoint_that_is_not_here_is_not_downloaded_to_see(recipe, workshop, monkeypatch):  # noqa: F811
    [model] = engine_models(recipe)
    list(build_stage(model))
    monkeypatch.setattr("prefmill.engine.sources.is_here", lambda source: False)
    MODELS.clear()
    [problem] = engine_problems([model], "mine")
    assert "is not downloaded" in problem.message
    assert not MODELS


def _replaced(request):
    torch.save(request.network.module.state_dict(), request.folder / "weights.pt")
    return {}


def test_engines_of_changed_weights_come_from_those_that_are_there(recipe, workshop, monkeypatch, tmp_path):  # noqa: F811
    [model] = engine_models(recipe)
    builder = Builder(workshop.write, ("float32",), refit=_replaced)
    monkeypatch.setattr("prefmill.compile.build.builder_of", lambda name: builder)
    monkeypatch.setattr("prefmill.compile.refit.builder_of", lambda name: builder)
    assert [report.state for report in refit_stage(model)] == ["missing", "missing", "eager"]
    list(build_stage(model, BuildOptions(only=("toy",))))
    assert [report.state for report in refit_stage(model)] == ["found", "missing", "eager"]
    monkeypatch.setitem(SEED, "weights", 1)
    [first, second, _] = refit_stage(model)
    assert (first.state, first.worst, second.state) == ("replaced", 0.0, "missing")
    assert first.reason.startswith("weights of toy-")
    assert workshop.builds == 1
    held = torch.load(f"{first.folder}/weights.pt", weights_only=True)
    assert torch.equal(held["weight"], toy(1).module.get_parameter("weight"))
    monkeypatch.setitem(SEED, "weights", 2)
    monkeypatch.setattr("prefmill.compile.refit.builder_of", lambda name: Builder(workshop.write, ("float32",)))
    [third, *_] = refit_stage(model, ("toy",))
    assert (third.state, third.reason) == ("built anew", "onnxruntime engines take no other weights")
    assert workshop.builds == 2
    assert len(list(artifacts_in(tmp_path / "engines"))) == 3


def test_eight_bits_are_for_networks_that_have_them_and_need_prompts(recipe, workshop, monkeypatch):  # noqa: F811
    one, other, head = _networks()
    monkeypatch.setattr(f"{__name__}._networks", lambda: (dataclasses.replace(one, kept_precise=()), other, head))
    builder = Builder(workshop.write, ("float32", "int8"))
    monkeypatch.setattr("prefmill.compile.build.builder_of", lambda name: builder)
    [model] = engine_models(override(recipe, ["engine.dtype=int8"]))
    first, second, _ = build_stage(model)
    assert (first.precision, first.state, second.precision, second.state) == ("int8", "failed", "float32", "built")
    assert "no calibration" in first.reason
    assert "--prompts FILE" in first.fix
    measured = Calibration({"": torch.ones(3)}, source={"prompts": 2})
    asked = []

    def calibrated(*arguments):
        asked.append(arguments[2])
        return measured

    monkeypatch.setattr("prefmill.recipes.engine_builds.calibrated", calibrated)
    monkeypatch.setattr("prefmill.compile.build.eight_bit_network", lambda network, *_: network)
    first, second, _ = build_stage(model, BuildOptions(prompts=("a red kite", "a blue boat")))
    assert (first.state, second.state, asked) == ("built", "found", [("a red kite", "a blue boat")])
    [artifact] = [one for _, one in artifacts_in(model.engine.artifacts_folder) if one.identity.precision == "int8"]
    assert artifact.identity.calibration == measured.digest
    assert artifact.notes["calibration"] == {"prompts": 2}
    assert [report.state for report in verify_stage(model)] == ["verified", "verified", "eager"]
    assert [report.state for report in build_stage(model)] == ["found", "found", "eager"], "whatever its calibration"
    assert [report.state for report in refit_stage(model)] == ["found", "found", "eager"]


def test_a_stage_that_draws_nothing_has_nothing_to_calibrate(recipe, workshop):  # noqa: F811
    [model] = engine_models(recipe)
    with pytest.raises(PrefmillError, match="rated draws no images"):
        calibrated(model, model.load(), ["a red kite"])


def test_prompts_of_a_file(tmp_path):
    (tmp_path / "some.txt").write_text("a\nb\nc\n")
    assert prompt_texts(str(tmp_path / "some.txt"), 2) == ("a", "b")
    (tmp_path / "none.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(PrefmillError, match="has no prompts"):
        prompt_texts(str(tmp_path / "none.jsonl"))
