"""What a training makes of a folder that it finds: its own, damaged, handed over, half written, or somebody else's."""

import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from prefmill.base.errors import PrefmillError
from prefmill.engine.responders.transformers import TransformersResponder
from prefmill.train.adapter_training import train
from prefmill.train.checkpoints import mark_complete, newest_complete
from prefmill.train.data import load_pairs, pairs_digest
from prefmill.train.events import read_failure, write_failure
from prefmill.train.manifest import PreferencePlan, write
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration


class Reached(Exception):
    """The launcher has prepared the folder and would start workers."""


def stop_at(*beginnings):
    """Return a list of messages, and a listener that fills it and stops at a message that begins so."""
    messages = []

    def listen(event):
        messages.append(event.message)
        if event.message.startswith(beginnings):
            raise Reached

    return messages, listen


@pytest.fixture(scope="module")
def stopped(run_folder, settings, tmp_path_factory):
    """A DeepSpeed training stopped with two checkpoints in its folder."""
    output = tmp_path_factory.mktemp("stopped") / "output"

    def stop(event):
        if event.kind == "step" and event.step >= 5:
            raise Reached

    with pytest.raises(Reached):
        train(run_folder, output, settings(max_steps=400), stop)
    return output


@pytest.fixture
def finished(run_folder, settings, model_folder, finish, tmp_path):
    """A finished training as its files say, with an adapter that peft reads."""
    output, config, pairs = tmp_path / "output", settings(), load_pairs(run_folder)
    base = LlavaForConditionalGeneration.from_pretrained(model_folder)
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(base, lora).save_pretrained(output / "adapter", save_embedding_layers=False)
    plan = PreferencePlan(run=str(run_folder), examples=len(pairs), examples_digest=pairs_digest(pairs), config=config)
    write(output / "training.json", plan)
    finish(output, "llava@0")
    return output


def flip(path, place=-1):
    """Turn the lowest bit of a byte."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_checkpoint_that_was_handed_over_runs_nothing(stopped, planted, run_folder, settings, tmp_path):
    """Its files name a call, and its list of files was made to fit: the training ends before it is made."""
    output = shutil.copytree(stopped, tmp_path / "theirs")
    newest = newest_complete(output / "checkpoints")
    assert newest is not None
    states = next(newest.path.glob("global_step*/*optim_states.pt"))
    torch.save({"optimizer_state_dict": planted(tmp_path / "it-ran")}, states)
    mark_complete(newest.path, newest.step, newest.record.steps, newest.notes)
    with pytest.raises(PrefmillError, match=r"more than weights and numbers \(posix\.mkdir\)") as caught:
        train(run_folder, output, settings(max_steps=400))
    assert str(output / "checkpoints") in caught.value.fix
    assert not (tmp_path / "it-ran").exists()


def test_damaged_checkpoint_gives_way_to_the_one_before(stopped, run_folder, settings, tmp_path):
    output = shutil.copytree(stopped, tmp_path / "damaged")
    newest = newest_complete(output / "checkpoints")
    assert newest is not None
    flip(newest.path / "adapter_model.safetensors")
    messages, listen = stop_at("continuing", "training on")
    with pytest.raises(Reached):
        train(run_folder, output, settings(max_steps=400), listen)
    # The training may have been stopped in the middle of its next checkpoint.
    told = [message for message in messages if "was not written to its end" not in message]
    assert told == [
        f"checkpoint-{newest.step} is damaged (adapter_model.safetensors) and is removed",
        f"continuing after step {newest.step - 2} of 400",
    ]


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json"])
@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_broken_adapter_is_not_called_trained(finished, run_folder, settings, model_folder, file, damage):
    """Neither by the command that made it, nor by the model that would wear it."""
    path = finished / "adapter" / file
    assert train(run_folder, finished, settings()).steps == 4
    TransformersResponder.from_pretrained(str(model_folder), adapter=finished / "adapter")
    if damage == "gone":
        path.unlink()
    elif file == "adapter_config.json":
        path.write_text(path.read_text().replace('"lora_alpha": 8', '"lora_alpha": 9'))
    else:
        save_file({name: -weight for name, weight in load_file(path).items()}, path, {"format": "pt"})
    wanted = "cannot be read" if damage == "gone" else "is damaged: its SHA-256 is"
    for use in (
        lambda: train(run_folder, finished, settings()),
        lambda: TransformersResponder.from_pretrained(str(model_folder), adapter=finished / "adapter"),
    ):
        with pytest.raises(PrefmillError, match=f"{file} {wanted}") as caught:
            use()
        assert f"delete {finished / 'manifest.json'}" in caught.value.fix


def test_adapter_from_elsewhere_has_nothing_to_be_checked_against(finished, model_folder, tmp_path):
    alone = shutil.copytree(finished / "adapter", tmp_path / "alone" / "adapter")
    flip(alone / "adapter_model.safetensors")
    (alone.parent / "manifest.json").write_text('{"another": "manifest"}')
    assert TransformersResponder.from_pretrained(str(model_folder), adapter=alone).key.startswith("llava@")
    (alone.parent / "manifest.json").write_bytes(b"\xff{")
    with pytest.raises(PrefmillError, match=r"cannot be checked: .*manifest\.json is damaged"):
        TransformersResponder.from_pretrained(str(model_folder), adapter=alone)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("adapter_model.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{"),
        ("adapter_config.json", b'{"peft_type": "LORA", "rank": 2}'),
        ("adapter_config.json", b"[]"),
        ("adapter_config.json", b"\xff"),
    ],
    ids=["cut weights", "foreign setting", "list", "bytes"],
)
def test_adapter_that_does_not_load_is_an_error_with_a_fix(finished, model_folder, tmp_path, file, content):
    alone = shutil.copytree(finished / "adapter", tmp_path / "alone" / "adapter")
    (alone / file).write_bytes(content)
    with pytest.raises(PrefmillError, match=r"does not fit the model: .") as caught:
        TransformersResponder.from_pretrained(str(model_folder), adapter=alone)
    assert caught.value.fix == "give the adapter folder of a training on this model"


def test_leftovers_of_a_kill_are_cleared(finished, run_folder, settings):
    """A kill while the adapter was copied, before the manifest, or after it, before the checkpoints were removed."""
    (finished / ".tmp-adapter").mkdir()
    (finished / ".tmp-adapter" / "adapter_config.json").write_text("{")
    (finished / "checkpoints").mkdir()
    assert train(run_folder, finished, settings()).steps == 4
    assert sorted(path.name for path in finished.iterdir() if not path.name.startswith(".l")) == [
        "adapter",
        "manifest.json",
        "training.json",
    ]
    (finished / "manifest.json").unlink()
    (finished / ".tmp-adapter").mkdir()
    messages, listen = stop_at("training on")
    with pytest.raises(Reached):
        train(run_folder, finished, settings(), listen)
    assert messages == ["training on 6 pairs with 1 process"]
    assert not (finished / ".tmp-adapter").exists()


@pytest.mark.parametrize("name", ["manifest.json", "training.json"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe{\x00", b"[]", b"[" * 3000, b'{"steps": "four"}'], ids=lambda content: content[:8]
)
def test_damaged_manifest_is_an_error_with_a_fix(finished, run_folder, settings, name, content):
    (finished / name).write_bytes(content)
    with pytest.raises(PrefmillError, match=f"{name} cannot be read") as caught:
        train(run_folder, finished, settings())
    assert caught.value.fix


def test_damaged_curve_stops_before_anything_is_thrown_away(stopped, run_folder, settings, tmp_path):
    output = shutil.copytree(stopped, tmp_path / "damaged")
    before = newest_complete(output / "checkpoints")
    flip(output / "metrics.jsonl", 0)
    with pytest.raises(PrefmillError, match=r"metrics\.jsonl is damaged"):
        train(run_folder, output, settings(max_steps=400))
    assert newest_complete(output / "checkpoints") == before


@pytest.mark.parametrize("name", ["adapter", "checkpoints", "manifest.json", "metrics.jsonl"])
def test_folder_of_another_program_is_left_alone(run_folder, settings, tmp_path, name):
    """Else its checkpoints would be removed as incomplete, and its adapter replaced."""
    kept = tmp_path / name / "checkpoint-500" / "weights" if name == "checkpoints" else tmp_path / name
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("theirs")
    with pytest.raises(PrefmillError, match=rf"holds {name} and no training\.json"):
        train(run_folder, tmp_path, settings())
    assert kept.read_text() == "theirs"


def test_last_words_of_a_worker_are_read_where_they_are_whole(tmp_path):
    write_failure(tmp_path, 1, PrefmillError("what", "how"))
    told = read_failure(tmp_path / ".failure-1.json")
    assert told is not None
    assert (told.message, told.fix) == ("what", "how")
    (tmp_path / ".failure-1.json").write_text('{"message": "wh')
    assert read_failure(tmp_path / ".failure-1.json") is None


def test_other_pairs_under_the_same_settings_are_refused(finished, other_run, settings):
    """Neither a finished training nor a stopped one continues with them."""
    for _ in range(2):
        with pytest.raises(PrefmillError, match=r"the pairs of .*other are not the 6 pairs it was begun with"):
            train(other_run, finished, settings())
        (finished / "manifest.json").unlink(missing_ok=True)
