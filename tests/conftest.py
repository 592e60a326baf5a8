"""Shared fixtures: random checkpoints in a folder of the test session, and the sample data where it is present."""

import gc
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from .forked_worker import LIBRARIES, Starter, fork

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two shared cores: one thread per process is the fastest
RUN = (
    *(
        "prefmill.cli.main",
        "prefmill.cli.run",
        "prefmill.engine.sd3.text_to_image",
        "prefmill.engine.scorers.image_reward",
    ),
    *("prefmill.engine.responders.transformers", "prefmill.engine.scorers.text_reward"),
)
SHARED = Path(__file__).parents[2] / "shared"
LONGEST = (
    *("train/test_launch.py", "train/preference/test_backend.py", "train/generator/test_trainer.py"),
    *("kernels/test_interpreter.py", "end_to_end/test_demo.py", "bench/test_train.py", "micro/test_checkpoints.py"),
    *("compile/test_refit.py", "compile/test_cross_build.py", "train/test_evaluation.py", "train/test_nodes.py"),
    *("train/preference/test_kills.py", "end_to_end/test_kill.py", "engine/test_checkpoint.py"),
    *("train/preference/test_trainer.py", "train/preference/test_families.py", "train/test_dpo_math.py"),
    *("kernels/test_logprob.py", "cli/test_main.py", "test_docs.py", "test_wheel.py", "train/reward/test_processes.py"),
)
"""Files of half a minute or so; they come first, so that neither of two workers is left with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and leave all else in its order."""
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONGEST))


def pytest_collection_finish() -> None:
    """What was imported is no garbage: the collector, which every training calls, need not look at it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """`random:` checkpoints are built once per session; parallel workers share them. Nothing of the user's is found."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"
    os.environ["PREFMILL_CACHE"] = str(folder)
    os.environ["PREFMILL_ENGINES"] = str(folder / "engines")
    return folder


@pytest.fixture(scope="session")
def shared():
    """The folder of real sample data and golden values."""
    if not SHARED.is_dir():
        pytest.skip("the shared sample data is not here")
    return SHARED


@pytest.fixture(scope="session")
def forks():
    """Processes that start with the libraries imported, once for the session."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LIBRARIES, *RUN, "tests.forked_once"])
    return context


@pytest.fixture(scope="module")
def forked_workers(forks):
    """Trainings start their processes without ten seconds of imports each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefmill.train.launch.subprocess.Popen", Starter(fork))
        yield


@pytest.fixture
def lora_of():
    """A LoRA of a transformer folder with random values in peft's layout: (folder, target, rank) to the target."""

    def build(folder: Path, target: Path, rank: int = 2, seed: int = 0) -> Path:
        import torch
        from diffusers import SD3Transformer2DModel  # pyright: ignore[reportPrivateImportUsage]
        from peft import LoraConfig, get_peft_model

        transformer: Any = SD3Transformer2DModel.from_pretrained(folder)
        torch.manual_seed(seed)
        targets = ["attn.to_q", "attn.to_k", "attn.add_v_proj"]
        adapted = get_peft_model(
            transformer, LoraConfig(r=rank, lora_alpha=4, target_modules=targets, init_lora_weights=False)
        )
        adapted.save_pretrained(str(target))
        return target

    return build
