"""What stops a training that has begun: too few pairs, a full disk, another place than it was begun in."""

import contextlib
import resource
from dataclasses import replace

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.train.checkpoints import CheckpointNotes, mark_complete, newest_complete
from prefmill.train.launch import train
from prefmill.train.worker import _is_full


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
    assert _is_full(error, tmp_path) is full
    wrapped = ValueError("while saving")
    wrapped.__cause__ = error
    assert _is_full(wrapped, tmp_path) is full


@pytest.mark.parametrize("changes", [{"processes": 7}, {"processes": 2, "batch_size": 4}], ids=str)
def test_more_places_than_pairs_are_refused(run_folder, settings, tmp_path, changes):
    """Else some pairs would be trained on twice in a step, without a word."""
    with pytest.raises(PrefmillError, match=r"take [78] pairs at a time, and there are 6") as caught:
        train(run_folder, tmp_path, settings(**changes))
    assert "processes" in caught.value.fix
    assert not (tmp_path / "train.log").exists()


def test_pairs_that_are_left_out_do_not_count(run_folder, settings, tmp_path):
    """Known only when the model's tokenizer has read them: three of the six are too long."""
    with pytest.raises(PrefmillError, match="take 6 pairs at a time, and there are 3"):
        train(run_folder, tmp_path, settings(zero_stage=0, processes=2, batch_size=3, max_tokens=57))


def test_batch_larger_than_the_data_takes_all_of_it(run_folder, settings, tmp_path):
    config = settings(backend="shared", zero_stage=0, batch_size=50, accumulation=3, max_steps=None, epochs=2)
    manifest = train(run_folder, tmp_path, config)
    assert (manifest.pairs, manifest.steps) == (6, 2)


@pytest.mark.parametrize(
    ("was", "words"),
    [
        ({"precision": "bfloat16"}, "precision was 'bfloat16', now 'float32'"),
        ({"device": "NVIDIA H100"}, "device was 'cuda', now 'cpu'"),
        ({"name": "trl"}, "name was 'trl', now 'shared'"),
        ({"attention": "mask"}, "attention was 'mask', now 'pairs'"),
    ],
    ids=str,
)
def test_auto_that_means_something_else_now_is_refused(run_folder, settings, tmp_path, begun, was, words):
    """Settings say "auto" before and after; what it came to is in the checkpoint."""
    checkpoint = newest_complete(begun / "checkpoints")
    assert checkpoint is not None
    backend = checkpoint.notes.backend.model_copy(update=was)
    notes = CheckpointNotes(seconds=checkpoint.notes.seconds, backend=backend)
    mark_complete(checkpoint.path, checkpoint.step, checkpoint.record.steps, notes)
    with pytest.raises(PrefmillError, match=f"checkpoint-2 was made in another way: {words}"):
        train(run_folder, begun, settings(**BEGUN))
    mark_complete(checkpoint.path, checkpoint.step, checkpoint.record.steps, replace(checkpoint).notes)


BEGUN = {"backend": "shared", "zero_stage": 0, "max_steps": 400, "save_every": 2}


@pytest.fixture(scope="module")
def begun(run_folder, settings, tmp_path_factory):
    """A training that was stopped after its first checkpoint."""
    output = tmp_path_factory.mktemp("begun") / "output"

    def stop(event):
        if newest_complete(output / "checkpoints"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run_folder, output, settings(**BEGUN), stop)
    return output


def test_folder_of_the_run_is_not_trained_into(run_folder, settings):
    for output in (run_folder, run_folder / "pairs", run_folder / "pairs" / "deeper"):
        before = sorted(path.name for path in run_folder.rglob("*"))
        with pytest.raises(PrefmillError, match="keeps its rows") as caught:
            train(run_folder, output, settings())
        assert str(run_folder / "training") in caught.value.fix
        assert sorted(path.name for path in run_folder.rglob("*")) == before
