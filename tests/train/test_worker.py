"""What stops a training that has begun: too few pairs, a full disk, another place than it was begun in."""

import contextlib
import resource

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.train import worker
from prefmill.train.adapter_training import train
from prefmill.train.adapter_work import prepare as prepare_job
from prefmill.train.checkpoints import CheckpointNotes, mark_complete, newest_complete
from prefmill.train.data import load_pairs, pairs_digest
from prefmill.train.manifest import PreferencePlan


@contextlib.contextmanager
def no_file_over(size):
    """Let the file system refuse what goes beyond a size, here and in every process that is started here."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_leaves_no_half_checkpoint(run_folder, settings, tmp_path):
    """The adapter fits and the optimizer's state does not; with room the same command trains to the end."""
    config = settings(backend="shared", lora_rank=128, max_steps=2)
    with no_file_over(2 * 2**20), pytest.raises(PrefmillError, match=f"the disk of {tmp_path} is full") as caught:
        train(run_folder, tmp_path, config)
    assert "the same command continues" in caught.value.fix
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-2"]
    assert newest_complete(tmp_path / "checkpoints") is None
    messages = []
    assert train(run_folder, tmp_path, config, lambda event: messages.append(event.message)).steps == 2
    assert "checkpoint-2 was not written to its end and is removed" in messages


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(13, "Permission denied"), False),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1054400 vs 1054288"), True),
        (RuntimeError("shapes differ"), False),
    ],
    ids=str,
)
def test_full_disk_has_many_names(tmp_path, error, full):
    assert worker._is_full(error, tmp_path) is full
    wrapped = ValueError("while saving")
    wrapped.__cause__ = error
    assert worker._is_full(wrapped, tmp_path) is full


@pytest.mark.parametrize("changes", [{"processes": 7}, {"processes": 2, "batch_size": 4}], ids=str)
def test_more_places_than_pairs_are_refused(run_folder, settings, tmp_path, changes):
    """Else some pairs would be trained on twice in a step, without a word."""
    with pytest.raises(PrefmillError, match=r"take [78] pairs at a time, and there are 6") as caught:
        train(run_folder, tmp_path, settings(**changes))
    assert "processes" in caught.value.fix
    assert not (tmp_path / "train.log").exists()


@pytest.fixture
def prepared(run_folder, settings, tmp_path):
    """What a worker resolves before it loads a model."""

    def prepare(**changes):
        pairs = load_pairs(run_folder)
        config = settings(zero_stage=0, **changes)
        plan = PreferencePlan(
            run=str(run_folder), examples=len(pairs), examples_digest=pairs_digest(pairs), config=config
        )
        return prepare_job(plan, tmp_path, 0.0)[0]

    return prepare


def test_pairs_that_are_left_out_do_not_count(prepared):
    """Known only when the model's tokenizer has read them: three of the six are too long."""
    with pytest.raises(PrefmillError, match="take 6 pairs at a time, and there are 3"):
        prepared(processes=2, batch_size=3, max_tokens=57)


@pytest.mark.parametrize(
    ("was", "words"),
    [
        ({"precision": "bfloat16"}, "precision was 'bfloat16', now 'float32'"),
        ({"device": "NVIDIA H100"}, "device was 'cuda', now 'cpu'"),
    ],
    ids=str,
)
def test_auto_that_means_something_else_now_is_refused(prepared, backend, tmp_path, monkeypatch, was, words):
    """Settings say "auto" before and after; what it came to is in the checkpoint."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folder = tmp_path / "checkpoints" / "checkpoint-2"
    folder.mkdir(parents=True)
    mark_complete(folder, 2, 4, CheckpointNotes(seconds=1, backend=backend))
    assert prepared(device="auto").precision == "float32"
    mark_complete(folder, 2, 4, CheckpointNotes(seconds=1, backend=backend.model_copy(update=was)))
    with pytest.raises(PrefmillError, match=f"checkpoint-2 was made in another way: {words}"):
        prepared(device="auto")


def test_folder_of_the_run_is_not_trained_into(run_folder, settings):
    for output in (run_folder, run_folder / "pairs", run_folder / "pairs" / "deeper"):
        before = sorted(path.name for path in run_folder.rglob("*"))
        with pytest.raises(PrefmillError, match="keeps its rows") as caught:
            train(run_folder, output, settings())
        assert str(run_folder / "training") in caught.value.fix
        assert sorted(path.name for path in run_folder.rglob("*")) == before
