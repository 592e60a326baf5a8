"""Cached numbers come back as they were put in; damaged or foreign ones do not come back at all."""

import json
import resource

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.train.preference.cache import ReferenceCache, VisionCache, keyed_folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_features_return_to_the_bit(tmp_path, dtype):
    cache, features = VisionCache(tmp_path), torch.randn(5, 3).to(dtype)
    assert not cache.has("image")
    cache.put("image", features)
    assert cache.has("image")
    assert torch.equal(cache.get("image"), features)
    assert cache.get("image").dtype == dtype


@pytest.mark.parametrize("damage", ["bit", "cut", "empty"])
def test_damaged_features_count_as_missing(tmp_path, damage):
    cache = VisionCache(tmp_path)
    cache.put("image", torch.ones(5, 3))
    path = tmp_path / "image.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"bit": bytes(data), "cut": bytes(data[:-4]), "empty": b""}[damage])
    assert not cache.has("image")
    assert not cache.has("another")
    assert cache.damaged == 1
    cache.put("image", torch.ones(5, 3))
    assert cache.has("image")


def test_full_disk_is_an_error_with_a_fix(tmp_path):
    """The library that writes has an error of its own; what was there before stays."""
    cache, before = VisionCache(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    cache.put("image", torch.ones(5, 3))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(PrefmillError, match=r"cannot write .*image\.safetensors: ") as caught:
            cache.put("image", torch.ones(500, 3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "make room" in caught.value.fix
    assert torch.equal(cache.get("image"), torch.ones(5, 3))
    assert [path.name for path in tmp_path.iterdir()] == ["image.safetensors"]


def test_reference_of_all_processes_is_found_again(tmp_path):
    numbers = {"first": -2.3333332538604736, "second": -1e-45}
    for process, (key, logp) in enumerate(numbers.items()):
        cache = ReferenceCache(tmp_path, process)
        cache.put(key, logp)
        cache.save()
    again = ReferenceCache(tmp_path, 0)
    again.load()
    assert {key: again.get(key) for key in numbers} == numbers
    again.put("third", -3.0)
    again.save()
    last = ReferenceCache(tmp_path, 1)
    last.load()
    assert all(key in last for key in (*numbers, "third"))


@pytest.mark.parametrize("damage", ["digit", "cut", "shape"])
def test_a_damaged_reference_file_counts_as_empty(tmp_path, damage):
    cache = ReferenceCache(tmp_path, 0)
    cache.put("pair", -1.25)
    cache.save()
    path = tmp_path / "logps-0.json"
    text = path.read_text()
    body = {**json.loads(text), "logps": {"pair": [3]}}
    path.write_text({"digit": text.replace("1.25", "1.26"), "cut": text[:-9], "shape": json.dumps(body)}[damage])
    again = ReferenceCache(tmp_path, 0)
    again.load()
    assert "pair" not in again
    assert again.damaged == 1


def test_other_facts_are_another_folder(tmp_path):
    facts = {"model": "llava@1", "precision": "float32", "attention": "pairs"}
    folders = {keyed_folder(tmp_path, facts), keyed_folder(tmp_path, dict(reversed(facts.items())))}
    assert len(folders) == 1
    for name in facts:
        folders.add(keyed_folder(tmp_path, {**facts, name: "other"}))
    assert len(folders) == 4
    assert json.loads((keyed_folder(tmp_path, facts) / "key.json").read_text()) == facts
