"""Where models come from: folders, hub ids, and what is neither."""

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.engine import sources
from prefmill.engine.sources import resolve_checkpoint


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
