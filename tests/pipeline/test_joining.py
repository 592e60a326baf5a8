"""Joined runs hold every row once, with where it came from, or say which rows contradict each other."""

import json

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.joining import chosen_runs, join_runs
from prefmill.pipeline.ledger import DeviceLedger, DeviceTime, totals
from prefmill.pipeline.records import Candidate, Prompt, Reject, Score, Selection
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run

KINDS = {"prompts": Prompt, "candidates": Candidate, "image_scores": Score, "selections": Selection}

USAGE = {"requests": 3, "failures": 0, "prompt_tokens": 9, "tokens": 6, "seconds": 1.0, "slowest": 0.5, "cost": None}


def make(folder, prompts, *, first=1, seed=1, score=0.5, steps=4, complete=True):
    """A run of named prompts; images are named by prompt and line, as the published seeds name them."""
    run = Run(folder)
    lines = list(enumerate(prompts, start=first))
    rows = {
        "prompts": [Prompt(name, line, f"a {name}", f"{folder.name}:{line}") for line, name in lines],
        "candidates": [
            Candidate(f"{name}-{line}-{k}", name, 8, 8, b"x", "sd@1", f"{folder.name}:{line}", seed)
            for line, name in lines
            for k in (0, 1)
        ],
        "image_scores": [
            Score(f"{name}-{line}-{k}", "reward", score, attributes={"a": 1.0}) for line, name in lines for k in (0, 1)
        ],
        "selections": [Selection(name, f"{name}-{line}-1", 0.5, 0.5) for line, name in lines],
    }
    for name, kept in rows.items():
        (folder / name).mkdir(parents=True)
        half = len(kept) // 2
        rejects = (Reject(f"{folder.name}-row", name, "empty"),)
        write_shard(folder / name, 0, half + 1, KINDS[name], kept[:half], Footer("w1", rejects))
        write_shard(folder / name, half + 1, len(kept) + 1, KINDS[name], kept[half:], Footer("w2"))
        manifest = {"fingerprint": f"{name}-{steps}", "complete": complete, "inputs": len(kept) + 1}
        manifest |= {"outputs": len(kept), "rejects": {"empty": 1}, "models": ["sd@1"], "config": {"steps": steps}}
        run.write_manifest(
            name, manifest | {"seconds": 2.0, "cost": 0.5, "notices": [], "hardware": {"gpu": "H100"}, "usage": USAGE}
        )
    DeviceLedger(folder).add(DeviceTime(stage="candidates", what="work", seconds=2.0, began=float(first), units=2))
    return run


def joined(tmp_path, *runs):
    target = Run(tmp_path / "joined")
    target.folder.mkdir()
    return target, join_runs(runs, target)


def rows_of(run, name):
    return list(run.dataset(name, KINDS[name]))


def test_runs_of_other_prompts_stand_one_after_the_other_byte_for_byte(tmp_path):
    one, two = make(tmp_path / "one", ["kite", "boat"]), make(tmp_path / "two", ["cup", "dog", "cat"], first=3)
    target, counts = joined(tmp_path, one, two)
    assert counts == {"prompts": 5, "candidates": 10, "image_scores": 10, "selections": 5}
    for name, kind in KINDS.items():
        assert rows_of(target, name) == rows_of(one, name) + rows_of(two, name)
        sums = [[shard.checksum for shard in run.dataset(name, kind).shards] for run in (one, two, target)]
        assert sums[2] == sums[0] + sums[1]
        assert target.dataset(name, kind).reject_counts() == {"empty": 2}
    manifest = target.manifest("candidates")
    assert (manifest["inputs"], manifest["outputs"], manifest["rejects"]) == (12, 10, {"empty": 2})
    assert (manifest["seconds"], manifest["cost"]) == (4.0, 1.0)
    assert (manifest["usage"]["requests"], manifest["usage"]["slowest"]) == (6, 0.5)
    origins = manifest["config"]["imported"]["joined"]
    assert [(origin["run"], origin["outputs"]) for origin in origins] == [(str(one.folder), 4), (str(two.folder), 6)]
    assert totals(DeviceLedger(target.folder))["candidates"].units == 4


def test_a_prompt_of_two_runs_is_kept_once_where_it_is_the_same(tmp_path):
    one = make(tmp_path / "one", ["kite", "boat"])
    two = make(tmp_path / "two", ["boat", "cup"], first=2, score=0.5001)  # the last bits of a score may differ
    target, counts = joined(tmp_path, one, two)
    assert counts == {"prompts": 3, "candidates": 6, "image_scores": 6, "selections": 3}
    assert [row.id for row in rows_of(target, "prompts")] == ["kite", "boat", "cup"]
    assert len({row.subject_id for row in rows_of(target, "image_scores")}) == 6
    assert target.manifest("candidates")["inputs"] < 10  # fewer than both had together: the shared ones count once


def test_a_prompt_with_other_images_is_a_conflict(tmp_path):
    one, two = make(tmp_path / "one", ["kite", "boat"]), make(tmp_path / "two", ["boat", "cup"], first=7)
    with pytest.raises(PrefmillError, match=r"both hold the prompt boat, with other candidates") as caught:
        joined(tmp_path, one, two)
    assert "generate.seeds=id" in caught.value.fix


@pytest.mark.parametrize(("other", "row"), [({"seed": 2}, "candidates"), ({"score": 0.6}, "image_scores")])
def test_the_same_row_with_another_content_is_a_conflict(tmp_path, other, row):
    one = make(tmp_path / "one", ["kite", "boat"])
    two = make(tmp_path / "two", ["boat"], first=2, **other)
    with pytest.raises(PrefmillError, match=rf"one and .*two contradict each other: the row boat-2-0.* of {row} is"):
        joined(tmp_path, one, two)


def test_other_settings_unfinished_stages_and_odd_folders_are_named(tmp_path):
    one = make(tmp_path / "one", ["kite"])
    with pytest.raises(PrefmillError, match=r"different ways: steps is 4 and 5"):
        joined(tmp_path, one, make(tmp_path / "two", ["cup"], steps=5))
    unfinished = make(tmp_path / "three", ["dog"], complete=False)
    with pytest.raises(PrefmillError, match=r"three has not finished prompts"):
        join_runs([one, unfinished], Run(tmp_path / "joined"))
    with pytest.raises(PrefmillError, match="named twice"):
        list(chosen_runs([one.folder, tmp_path / "." / "one"]))
    with pytest.raises(PrefmillError, match="is not a run folder"):
        list(chosen_runs([one.folder, tmp_path / "none"]))
    shard = one.dataset("prompts", Prompt).shards[0].path
    data = bytearray(shard.read_bytes())
    data[6] ^= 1
    shard.write_bytes(data)
    with pytest.raises(PrefmillError, match=f"{shard.name} is damaged"):
        join_runs([one], Run(tmp_path / "joined"))


def test_a_manifest_stays_json(tmp_path):
    target, _ = joined(tmp_path, make(tmp_path / "one", ["kite"]), make(tmp_path / "two", ["cup"], first=2))
    assert json.loads((target.folder / "prompts" / "_manifest.json").read_text())["complete"] is True
