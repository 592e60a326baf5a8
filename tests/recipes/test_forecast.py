"""A forecast rests on what was measured of the same settings and the same device, or says of what it is an estimate."""

import json
from dataclasses import replace
from typing import Any

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.ledger import DeviceLedger, DeviceTime
from prefmill.pipeline.store import Run
from prefmill.recipes.forecast import forecast, price_of
from prefmill.recipes.pds_dpo import pds_dpo
from prefmill.recipes.plan import PlannedStage
from prefmill.recipes.preflight import RunPlan
from prefmill.recipes.rates import Gpu, Measured
from prefmill.recipes.wall import stage_wall

CONFIG = {"model": "stabilityai/stable-diffusion-3-medium-diffusers", "steps": 28, "width": None, "height": None}
MODELS = (("generate.model", CONFIG["model"]),)
PROMPTS = PlannedStage("prompts", "prompts", 1, (), 0, 100, None, {})
CANDIDATES = PlannedStage("candidates", "prompts", 4, MODELS, 0, None, None, CONFIG, ("prompts",), 2)
SCORES = PlannedStage(
    "image_scores", "images", 1, (("score.model", "THUDM/ImageReward"),), 0, None, None, {}, ("candidates",), 16
)
A100 = "NVIDIA A100-SXM4-80GB"


def plan_of(folder, *stages):
    return RunPlan(folder / "new", (PROMPTS, *stages), (), (), None, (), ())


def measured_run(folder, device=A100, config=CONFIG, prompts=10):
    """A run of a few prompts: 8 s to load, 5 s of work and 1 of waiting for a prompt."""
    run = Run(folder)
    for name, settings, inputs in (("prompts", {}, prompts), ("candidates", config, prompts)):
        (folder / name).mkdir(parents=True)
        (folder / name / "000000000-000000010-0123456789abcdef.parquet").write_bytes(b"x" * 100 * inputs)
        manifest = {"fingerprint": "f", "complete": True, "inputs": inputs, "outputs": 4 * inputs, "seconds": 0.0}
        run.write_manifest(name, manifest | {"config": settings})
    about = {"stage": "candidates", "began": 1.0, "device": device}
    DeviceLedger(folder).add(
        DeviceTime(what="loading", seconds=8.0, **about),
        DeviceTime(what="work", seconds=5.0 * prompts, units=prompts, **about),
        DeviceTime(what="idle", seconds=1.0 * prompts, **about),
    )
    return folder


def drawn(found) -> Any:
    return next(stage for stage in found.stages if stage.name == "candidates")


def test_another_run_of_the_same_settings_and_device_is_a_measurement(tmp_path):
    source = measured_run(tmp_path / "few")
    found = forecast(plan_of(tmp_path, CANDIDATES), pds_dpo(), gpu="a100", price=3.6, sources=[source])
    stage = drawn(found)
    assert (stage.missing, stage.loads, stage.rate.value, stage.load.value) == (100, 1, 6.0, 8.0)
    assert stage.measured
    assert stage.rate.source == str(source)
    assert stage.held == stage.wall == 608.0
    assert stage.written.value == 100 * 100
    assert found.cost == pytest.approx(608 / 3600 * 3.6)
    several = drawn(forecast(plan_of(tmp_path, CANDIDATES), pds_dpo(), gpu="a100", count=4, sources=[source]))
    assert several.wall == 8 + 3 * 60  # ten units of a minute on four devices
    assert (several.held, several.loads) == (4 * several.wall, 4)


def test_other_settings_and_other_devices_are_no_measurement(tmp_path):
    other = measured_run(tmp_path / "other", config=CONFIG | {"steps": 50})
    found = forecast(plan_of(tmp_path, CANDIDATES), pds_dpo(), gpu="a100", sources=[other])
    assert not drawn(found).measured
    assert any("another steps" in note for note in found.notes)
    cpu = measured_run(tmp_path / "cpu", device="AMD EPYC")
    assert not drawn(forecast(plan_of(tmp_path, CANDIDATES), pds_dpo(), gpu="a100", sources=[cpu])).measured
    assert drawn(forecast(plan_of(tmp_path, CANDIDATES), pds_dpo(), sources=[cpu])).measured


def test_estimates_carry_their_source_and_scale(tmp_path):
    plan = plan_of(tmp_path, CANDIDATES, SCORES)
    found = forecast(plan, pds_dpo(), gpu="a100")
    stage = drawn(found)
    assert stage.rate.value == pytest.approx(4 * 4.69)  # OneDiff's seconds of an image, four of a prompt
    assert "OneDiff" in stage.rate.source
    assert not stage.measured
    scores: Any = found.stages[-1]
    assert (scores.missing, scores.rate.value) == (400, pytest.approx(1 / 1400))
    faster = drawn(forecast(plan, pds_dpo(), gpu="h100"))
    assert faster.rate.value == pytest.approx(4 * 2.03)
    half = plan_of(tmp_path, replace(CANDIDATES, config=CONFIG | {"steps": 14, "width": 512, "height": 512}))
    assert drawn(forecast(half, pds_dpo(), gpu="a100")).rate.value == pytest.approx(4 * 4.69 / 2 * 2.1 / 8.9)
    small = forecast(plan, pds_dpo(), gpu="rtx3090")
    assert not any("takes about" in note for note in small.notes)
    assert any(
        "takes about 26 GB, and a rtx3090 has 24" in note
        for note in forecast(_of_13b(tmp_path), pds_dpo(), gpu="rtx3090").notes
    )


def _of_13b(folder):
    models = (("responders.2.model", "llava-hf/llava-v1.6-vicuna-13b-hf"),)
    return plan_of(folder, PlannedStage("responses-13b", "answers", 1, models, 0, 100, None, {}))


def test_what_nobody_knows_stays_unknown(tmp_path):
    found = forecast(plan_of(tmp_path, CANDIDATES), pds_dpo(), price=2.0)
    assert (found.device_hours, found.cost, found.unknown) == (None, None, ["candidates"])
    assert forecast(plan_of(tmp_path, CANDIDATES), pds_dpo(), gpu="MI300X").device_hours is None


def test_a_benchmark_is_a_measurement_of_its_model_on_its_device(tmp_path):
    result = {
        "hardware": {"cpu": "AMD", "gpu": A100},
        "setting": {"model": CONFIG["model"]},
        "claims": {"images_per_s": 2},
    }
    file = tmp_path / "synthesis.json"
    file.write_text(json.dumps(result))
    stage = drawn(forecast(plan_of(tmp_path, CANDIDATES), pds_dpo(), gpu="a100", sources=[file]))
    assert (stage.rate.value, stage.rate.measured, stage.rate.source) == (2.0, True, str(file))
    assert drawn(forecast(plan_of(tmp_path, CANDIDATES), pds_dpo(), gpu="h100", sources=[file])).rate.measured is False
    file.write_text("{}")
    with pytest.raises(PrefmillError, match="it is no benchmark's result"):
        Measured.at(file)
    with pytest.raises(PrefmillError, match="No such file"):
        Measured.at(tmp_path / "none.json")


def test_gpus_by_name():
    assert Gpu.named("A100").is_device(A100)
    assert not Gpu.named("a100").is_device("NVIDIA H100 80GB HBM3")
    assert Gpu.named("mi300x").is_device("AMD Instinct MI300X")
    assert Gpu.named("a100").is_device("")  # what runs without a device is the same everywhere


@pytest.mark.parametrize("text", ["free", "", "-1", "nan", "inf"])
def test_a_price_that_is_none(text):
    with pytest.raises(PrefmillError, match="--price"):
        price_of(text, None)


def test_prices_and_counts(tmp_path):
    assert (price_of("2.5", None), price_of(None, 3.0), price_of("0", 3.0)) == (2.5, 3.0, 0.0)
    with pytest.raises(PrefmillError, match="--count 0"):
        forecast(plan_of(tmp_path), pds_dpo(), count=0)


def test_a_stage_lasts_as_long_as_the_device_with_the_most_units():
    assert stage_wall(600, 30, 1, 60) == 630
    assert stage_wall(600, 30, 4, 60) == 30 + 3 * 60
    assert stage_wall(90, 0, 4, 60) == 45  # two units of 45 s, and two devices wait
    assert stage_wall(600, 30, 4, 0) == 180
    assert stage_wall(0, 30, 4, 60) == 0
