"""A tiny LLaVA and a run of six pairs, made once; and a training on them that says what it did."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from prefmill.base.files import sha256_of
from prefmill.engine.images import encode_image
from prefmill.engine.tiny.catalogue import build_responder
from prefmill.pipeline.records import Candidate, Pair, content_id
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run
from prefmill.train.data import load_pairs, pairs_digest
from prefmill.train.manifest import AdapterManifest, Backend, write
from prefmill.train.settings import DPOTrainingConfig

# Two cores are shared by everything that runs here; and one thread adds in one order.
os.environ["OMP_NUM_THREADS"] = "1"

TEXTS = [
    ("What stands on the table?", "A red bottle and a white plate.", "A dog."),
    ("Which color is the car?", "The car is blue.", "The car is a large orange boat near the sea."),
    ("How many birds are there?", "Three birds in a tree.", "No birds."),
    ("Describe the scene.", "A small house by the lake, with mountains behind it.", "A city street at night."),
    ("Is it raining?", "No, the sky is clear.", "Yes, it rains on all of the old people."),
    ("What does the girl hold?", "She holds a yellow flower.", "A book."),
]


def write_run(
    folder: Path,
    texts: list[tuple[str, str, str]] = TEXTS,
    size: int = 56,
    shapes: Sequence[tuple[int, int]] | None = None,
) -> Path:
    """Write a run whose pairs have these instructions, chosen and rejected answers; images are noise.

    `shapes` are widths and heights that take turns.
    """
    shapes = shapes or ((size, size), (size + 14, size))
    candidates, pairs = [], []
    for number, (instruction, chosen, rejected) in enumerate(texts):
        width, height = shapes[number % len(shapes)]
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        image_id = content_id("candidate", number)
        image = encode_image(pixels)
        candidates.append(Candidate(image_id, f"prompt-{number}", width, height, image, model="micro@0"))
        pair_id = content_id("pair", image_id, instruction, chosen, rejected)
        pairs.append(Pair(pair_id, image_id, instruction, chosen, rejected, margin=0.5))
    with Run.writing(folder) as run:
        for name, kind, records in (("candidates", Candidate, candidates), ("pairs", Pair, pairs)):
            (run.folder / name).mkdir()
            write_shard(run.folder / name, 0, len(records), kind, records, Footer(work="test"))
            run.write_manifest(name, {"stage": name, "fingerprint": f"{name}-0123", "models": [f"{name}-model@4567"]})
    return folder


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (self.folder,)


@pytest.fixture(scope="module", autouse=True)
def quick_starts(forked_workers) -> None:
    """Workers are forked here."""


@pytest.fixture
def planted() -> type[Planted]:
    return Planted


@pytest.fixture(scope="session")
def backend() -> Backend:
    return Backend(
        name="trl",
        engine="Engine",
        zero_stage=0,
        precision="float32",
        device="cpu",
        processes=1,
        trainable_parameters=8,
        lora_targets="q_proj",
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_responder(tmp_path_factory.mktemp("model") / "llava", seed=1)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def other_run(tmp_path: Path) -> Path:
    """A run with two of the pairs."""
    return write_run(tmp_path / "other", TEXTS[:2])


@pytest.fixture(scope="session")
def settings(model_folder: Path) -> Callable[..., DPOTrainingConfig]:
    """Settings of a short training whose losses move: 4 steps of 2 pairs, a high learning rate, no warm-up."""

    def make(**changes: object) -> DPOTrainingConfig:
        values: dict[str, object] = {
            "model": str(model_folder),
            "lora_rank": 4,
            "lora_alpha": 8,
            "learning_rate": 1e-3,
            "warmup_ratio": 0,
            "accumulation": 2,
            "max_steps": 4,
            "device": "cpu",
            "save_every": 2,
        }
        return DPOTrainingConfig.model_validate({**values, **changes})

    return make


@pytest.fixture(scope="session")
def finish(
    run_folder: Path, settings: Callable[..., DPOTrainingConfig], backend: Backend
) -> Callable[[Path, str], None]:
    """Write the manifest that makes an output with an adapter a finished training on the run's pairs."""

    def write_manifest(output: Path, base_model_key: str) -> None:
        config, pairs = settings(), load_pairs(run_folder)
        manifest = AdapterManifest(
            adapter_sha256=sha256_of(output / "adapter" / "adapter_model.safetensors"),
            adapter_config_sha256=sha256_of(output / "adapter" / "adapter_config.json"),
            base_model=config.model,
            base_model_key=base_model_key,
            run=str(run_folder),
            stages={},
            pairs=len(pairs),
            pairs_digest=pairs_digest(pairs),
            excluded={},
            config=config,
            backend=backend,
            steps=4,
            loss={},
            seconds=1,
            device_seconds=1,
            versions={},
            hardware={},
        )
        write(output / "manifest.json", manifest)

    return write_manifest
