"""Where models come from: folders, hub ids, and what is neither."""

import shutil
from unittest.mock import MagicMock

import pytest
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError
from prefmill.base.errors import PrefmillError
from prefmill.engine import sources
from prefmill.engine.sources import check_checkpoint, resolve_checkpoint


def test_a_folder_resolves_to_itself(tmp_path):
    assert resolve_checkpoint(str(tmp_path)) == tmp_path.resolve()


@pytest.mark.parametrize(
    "source",
    [
        "/no/such/folder",
        "./nothing",
        "~/nothing-here",
        "a/b/c",
        "name",
        "",
        "../x/y",
        "~nobody-here/x",
        "n" * 5000,
        "a\0b",
    ],
)
def test_a_path_that_is_not_there(source):
    with pytest.raises(PrefmillError, match=r"does not exist") as caught:
        resolve_checkpoint(source)
    assert repr(source) in caught.value.message


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with pytest.raises(PrefmillError, match="is a file"):
        resolve_checkpoint(str(path))


def test_a_hub_id_that_cannot_be_had(monkeypatch):
    def offline(source, **options):
        raise OSError(f"cannot reach the hub for {source}")

    monkeypatch.setattr(sources, "snapshot_download", offline)
    with pytest.raises(PrefmillError, match="owner/name") as caught:
        resolve_checkpoint("owner/name")
    assert "hf download owner/name" in caught.value.fix


def test_only_safe_files_are_fetched(monkeypatch, tmp_path):
    asked = {}

    def download(source, **options):
        asked.update(options)
        return str(tmp_path)

    monkeypatch.setattr(sources, "snapshot_download", download)
    assert resolve_checkpoint("owner/name") == tmp_path
    assert "*.safetensors" in asked["allow_patterns"]
    assert not {"*.bin", "*.pt", "*.py", "*.ckpt"} & set(asked["allow_patterns"])


@pytest.mark.parametrize("name", ["text-to-image", "image-reward", "clip", "policy", "text-reward"])
def test_what_is_there_passes_the_check(name, engine_checkpoints, monkeypatch, tmp_path):
    monkeypatch.setenv("PREFMILL_CACHE", str(tmp_path))
    check_checkpoint(str(engine_checkpoints[name]))
    check_checkpoint(f"micro:{name}")
    if name != "policy":
        check_checkpoint(f"random:{name}")
    assert not list(tmp_path.iterdir()), "nothing is built"


def a_part_is_missing(folder):
    shutil.rmtree(folder / "vae")
    return "has no vae"


def a_config_is_broken(folder):
    (folder / "transformer" / "config.json").write_text("{")
    return "not valid JSON"


def a_weight_file_is_cut(folder):
    path = next((folder / "text_encoder").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:20])
    return "truncated"


@pytest.mark.parametrize("damage", [a_part_is_missing, a_config_is_broken, a_weight_file_is_cut])
def test_a_damaged_folder_fails_the_check(damage, engine_checkpoints, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(engine_checkpoints["text-to-image"], folder)
    message = damage(folder)
    with pytest.raises(PrefmillError, match=message):
        check_checkpoint(str(folder))


@pytest.mark.parametrize("source", ["random:nothing", "micro:nothing", "/no/such/folder", ""])
def test_names_that_are_not_there_fail_the_check(source):
    with pytest.raises(PrefmillError):
        check_checkpoint(source)


RESPONSE = MagicMock()


@pytest.mark.parametrize(
    ("error", "message", "fix"),
    [
        (GatedRepoError("gated", response=RESPONSE), "is gated", "HF_TOKEN"),
        (RepositoryNotFoundError("no", response=RESPONSE), "has no checkpoint", "HF_TOKEN"),
        (OfflineModeIsEnabled("offline"), "cannot be asked", "hf download owner/name"),
        (ConnectionError("no route"), "cannot be asked", "hf download owner/name"),
    ],
)
def test_a_hub_id_is_asked_for_without_a_download(monkeypatch, error, message, fix):
    def refuse(source, **options):
        raise error

    monkeypatch.setattr(sources, "try_to_load_from_cache", lambda *given: None)
    monkeypatch.setattr(sources, "snapshot_download", None)
    monkeypatch.setattr(sources, "model_info", lambda source, **options: None)
    monkeypatch.setattr(sources, "auth_check", lambda source: None)
    check_checkpoint("owner/name")
    monkeypatch.setattr(sources, "auth_check", refuse)
    with pytest.raises(PrefmillError, match=message) as caught:
        check_checkpoint("owner/name")
    assert fix in caught.value.fix
    monkeypatch.setattr(sources, "try_to_load_from_cache", lambda source, name: "/cache/config.json")
    check_checkpoint("owner/name")
