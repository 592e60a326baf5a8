"""Which crew the settings ask for, on machines with and without GPUs."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.pipeline.execute.crews import crew_of
from prefmill.pipeline.execute.processes import ProcessCrew
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.loop import LoopReference
from prefmill.pipeline.manifest import StageManifest, StageReport
from prefmill.pipeline.records import Score
from prefmill.pipeline.stage import Task
from prefmill.recipes.settings import override
from prefmill.recipes.tiny import tiny


class Noted(Progress):
    def __init__(self):
        self.notices = []

    def notice(self, text):
        self.notices.append(text)


NOTHING: Any = list


def task(device):
    return Task("scores", Score, NOTHING, NOTHING, 4, execution={"device": device}, checkpoints=("x",))


def chosen(monkeypatch, gpus, device="cuda", visible=None, **config):
    """The crew's devices, None where there is no crew; and what was said."""
    cuda = SimpleNamespace(is_available=lambda: gpus > 0, device_count=lambda: gpus)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, get_num_threads=lambda: 12))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    progress = Noted()
    with crew_of(ExecutorConfig(**config), [task(device)], progress) as crew:
        assert crew is None or isinstance(crew, ProcessCrew)
        return (crew.free, crew.threads) if crew else None, progress.notices


def test_several_gpus_get_a_process_each_and_one_or_none_none(monkeypatch):
    found, notices = chosen(monkeypatch, 4)
    assert found == (["0", "1", "2", "3"], 3)
    assert "4 GPUs: a process on each" in notices[0]
    assert chosen(monkeypatch, 1) == (None, [])
    assert chosen(monkeypatch, 4, device="cpu") == (None, [])
    assert chosen(monkeypatch, 4, engine="local") == (None, [])


def test_processes_see_the_gpus_that_this_one_sees(monkeypatch):
    assert chosen(monkeypatch, 2, visible="5,MIG-abc")[0] == (["5", "MIG-abc"], 6)
    assert chosen(monkeypatch, 4, engine="processes", workers=2)[0] == (["0", "1"], 3)
    found, notices = chosen(monkeypatch, 2, engine="processes", workers=5)
    assert found == (["0", "1"], 6)
    assert "executor.workers is 5, and there are 2 GPUs" in notices[0]


def test_processes_of_a_cpu_have_the_threads_of_this_one_so_that_their_last_bits_are_the_same(monkeypatch):
    assert chosen(monkeypatch, 0, device="cpu", engine="processes", workers=3)[0] == ([None] * 3, 12)
    assert chosen(monkeypatch, 0, device="cpu", engine="processes")[0] == ([None], 12)


def test_settings_of_the_executor():
    recipe = override(tiny(), ["executor.engine=processes", "executor.workers=2", "executor.slowest=5"])
    assert (recipe.executor.engine, recipe.executor.workers, recipe.executor.slowest) == ("processes", 2, 5.0)
    for setting in ("engine=spark", "workers=0", "workers=many", "attempts=0", "slowest=0", "unit_seconds=-1"):
        with pytest.raises(PrefmillError, match=f"executor.{setting.partition('=')[0]}"):
            override(tiny(), [f"executor.{setting}"])
    with pytest.raises(PrefmillError, match="gives each worker a GPU of its own"):
        override(tiny(), ["executor.engine=ray", "engine.device=cuda:1"])
    with pytest.raises(PrefmillError, match="gives each worker a GPU of its own"):
        override(tiny(), ["executor.engine=processes", "engine.stages.generate.device=cuda:0"])


RECIPE = """
from typing import Literal
from prefmill.recipes.recipe import Recipe

class Mine(Recipe):
    loop: Literal["mine-elsewhere"] = "mine-elsewhere"
    shade: int = 1
"""


def test_a_loop_of_ones_own_is_made_again_from_its_file(tmp_path, monkeypatch):
    reference = LoopReference.to(tiny())
    assert reference.loop() == tiny()
    path = tmp_path / "mine.py"
    path.write_text(RECIPE)
    found = LoopReference("recipe_of_mine", "Mine", str(path), {"shade": 3}).loop()
    monkeypatch.delitem(sys.modules, "recipe_of_mine")
    assert (type(found).__name__, found.model_dump()["shade"]) == ("Mine", 3)


@pytest.mark.parametrize("module", ["__main__", "no_such_module"])
def test_a_loop_that_no_worker_could_import_is_named(module):
    with pytest.raises(PrefmillError, match="a worker cannot import the loop Mine"):
        LoopReference(module, "Mine", None, {}).loop()


def test_gpus_of_several_types_are_refused_unless_they_may_mix():
    begun = StageManifest("scores", "f", {}, "now").with_report(StageReport(("m",), {}, {"gpu": "A100"}))
    assert begun.with_report(StageReport(("m",), {}, {"gpu": "A100"})) == begun
    with pytest.raises(PrefmillError, match="begun on A100, and this is H100") as caught:
        begun.with_report(StageReport(("m",), {}, {"gpu": "H100"}))
    assert "executor.mixed_hardware=true" in caught.value.fix
    mixed = begun.with_report(StageReport(("m",), {}, {"gpu": "H100"}), mixed=True)
    assert mixed.hardware["gpu"] == "A100, H100"
    on_gpus = begun.with_report(StageReport(("m",), {}, {"gpu": "H100", "cpu": "EPYC"}, device="cuda"), mixed=True)
    assert on_gpus.notices == ["computed on A100 and H100, whose last bits differ"]
    assert mixed.with_report(StageReport(("m",), {}, {"gpu": "A100"})) == mixed


def test_cpus_of_several_types_are_said():
    """The last bits of a CPU's results depend on it as well; what a GPU's host is does not matter."""
    begun = StageManifest("scores", "f", {}, "now").with_report(StageReport(("m",), {}, {"cpu": "EPYC"}, device="cpu"))
    assert begun.notices == []
    both = begun.with_report(StageReport(("m",), {}, {"cpu": "Xeon", "cores": "4"}, device="cpu"))
    assert both.hardware == {"cpu": "EPYC, Xeon", "cores": "4"}
    assert both.notices == ["computed on EPYC and Xeon, whose last bits differ"]
    hosts = StageManifest("scores", "f", {}, "now", hardware={"cpu": "EPYC", "gpu": "A100"})
    assert hosts.with_report(StageReport((), {}, {"cpu": "Xeon", "gpu": "A100"}, device="cuda")).notices == []
