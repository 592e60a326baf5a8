"""Exported preferences load where they are meant to load, say what the run says, and come back as what they were."""

import io
import json
from typing import Any, cast

import pyarrow.parquet as pq
import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.bench.evaluators.agreement import decided_pairs
from prefmill.bench.evaluators.rankings_hpdv2 import read_hpdv2
from prefmill.bench.evaluators.rankings_imagereward import read_imagereward
from prefmill.bench.evaluators.rankings_pick_a_pic import read_pick_a_pic
from prefmill.cli.export import export_command
from prefmill.pipeline.exporting.export import export
from prefmill.pipeline.exporting.rankings import mean_ranks, ranks, standing
from prefmill.pipeline.records import Annotation, Candidate, ImagePreference, Prompt
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run

EVIL = "<script>alert('x')</script> \u2028 ünïcödé"
MANIFEST = {"complete": True, "inputs": 1, "outputs": 1, "rejects": {}, "models": [], "seconds": 1.0, "cost": None}


def preference(number, chosen, rejected, aspect="overall", prompt="p", margin=1.0):
    return ImagePreference(f"id{number + 4}", prompt, f"text of {prompt}", aspect, chosen, rejected, margin)


def said(image, rating, aspect="fidelity", presentation=0, position=0, prompt="p", reason=EVIL):
    return Annotation(image, prompt, "annotator@1", aspect, rating, reason, position, presentation)


@pytest.fixture
def run_with(tmp_path, picture):
    """Make a run with four images of a prompt, two of them of another generator, and with these preferences."""

    def build(preferences, annotations=(), folder="run"):
        candidates = [
            Candidate(f"i{n}", "p", 8, 6, picture(n), f"model{n // 2}", guidance=float(n), seed=10 + n, steps=4)
            for n in range(4)
        ]
        rows = {
            "prompts": [Prompt("p", 1, "text of p", "s"), Prompt("q", 2, "text of q", "s")],
            "candidates-one": candidates[:2],
            "candidates-two": candidates[2:],
            "annotations-judge": list(annotations),
            "image_preferences": preferences,
        }
        run = Run(tmp_path / folder)
        for name, records in rows.items():
            (run.folder / name).mkdir(parents=True)
            if records:
                write_shard(run.folder / name, 0, len(records), type(records[0]), records, Footer("w"))
            run.write_manifest(name, {**MANIFEST, "config": {}, "notices": []})
        return run

    return build


@pytest.fixture
def judged(run_with):
    """i0 before i1 before i3, and i2 tied with i1: by hand, the places are 1, 2, 2, 4."""
    order = [("i0", "i1"), ("i0", "i2"), ("i0", "i3"), ("i1", "i3"), ("i2", "i3")]
    preferences = [preference(n, *pair) for n, pair in enumerate(order)]
    preferences.append(preference(9, "i3", "i0", "aesthetic", margin=2.0))
    ratings = {"i0": 5, "i1": 3, "i2": 4, "i3": 1}
    annotations = [said(image, rating) for image, rating in ratings.items()]
    annotations += [said("i0", 2, "aesthetic", 1), said("i3", None, "aesthetic", 1)]
    return run_with(preferences, annotations)


def test_places_are_those_of_the_hand():
    pairs = [preference(0, "a", "b"), preference(1, "a", "c"), preference(2, "b", "d"), preference(3, "c", "d")]
    found = standing(["d", "c", "b", "a"], [*pairs, preference(4, "a", "d")])
    assert found == [-3, 0, 0, 3]
    assert ranks(found) == [4, 2, 2, 1]
    assert mean_ranks(found) == [4, 2.5, 2.5, 1]


def test_imagereward_has_the_ranking_the_images_and_what_was_said(judged, tmp_path, picture):
    report = export(judged, tmp_path / "out", "imagereward")
    assert (report.rows, report.images, report.left_out, report.untied) == ({"train": 1}, 4, {}, 0)
    (row,) = json.loads((tmp_path / "out/imagereward.json").read_text(encoding="utf-8"))
    assert {name: row[name] for name in ("id", "prompt", "generations", "ranking")} == {
        "id": "p",
        "prompt": "text of p",
        "generations": [f"images/i{n}.png" for n in range(4)],
        "ranking": [1, 2, 2, 4],
    }
    assert [(tmp_path / "out" / path).read_bytes() for path in row["generations"]] == [picture(n) for n in range(4)]
    told = pq.read_table(tmp_path / "out/annotations.parquet").to_pylist()
    assert [(one["image"], one["aspect"], one["rating"]) for one in told][:2] == [
        ("images/i0.png", "fidelity", 5),
        ("images/i1.png", "fidelity", 3),
    ]
    assert {one["reason"] for one in told} == {EVIL}


def test_hpdv2_has_mean_ranks_and_the_order_of_every_presentation_that_rated_all(judged, tmp_path):
    export(judged, tmp_path / "out", "hpdv2")
    (row,) = json.loads((tmp_path / "out/hpdv2.json").read_text(encoding="utf-8"))
    assert row["rank"] == [1, 2.5, 2.5, 4]
    assert row["raw_annotations"] == [[1, 3, 2, 4]]  # the second presentation rated one image of four
    assert (row["prompt"], row["image_path"][0]) == ("text of p", "images/i0.png")


def test_datasets_loads_the_pairs_with_aspects_settings_and_ratings(judged, tmp_path, picture):
    import datasets

    export_command(judged.folder, tmp_path / "pairs.parquet", "image-pairs", as_json=True)
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "pairs.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    rows: dict[str, Any] = {row["id"]: row for row in cast(Any, loaded)}
    assert set(rows) == {f"id{n + 4}" for n in (0, 1, 2, 3, 4, 9)}
    assert {row["label_0"] for row in rows.values()} == {0.0, 1.0}  # neither side is always the better one
    for row in rows.values():
        assert row["label_0"] + row["label_1"] == 1
        best = 0 if row["label_0"] else 1
        assert row[f"image_{best}_uid"] == row["best_image_uid"]
        for side in (0, 1):
            number = int(row[f"image_{side}_uid"][1])
            assert row[f"jpg_{side}"] == picture(number)
            assert Image.open(io.BytesIO(row[f"jpg_{side}"])).size == (8, 6)
            made = [row[f"{name}_{side}"] for name in ("model", "guidance", "seed", "steps")]
            assert made == [f"model{number // 2}", float(number), 10 + number, 4]
    aesthetic = rows["id13"]
    assert (aesthetic["aspect"], aesthetic["margin"], aesthetic["best_image_uid"]) == ("aesthetic", 2.0, "i3")
    worse = 1 if aesthetic["label_0"] else 0
    assert [(one["aspect"], one["rating"]) for one in aesthetic[f"ratings_{worse}"]] == [("aesthetic", 2)]
    overall = rows["id4"]
    first = "ratings_0" if overall["image_0_uid"] == "i0" else "ratings_1"
    assert [(one["aspect"], one["rating"], one["presentation"]) for one in overall[first]] == [
        ("fidelity", 5, 0),
        ("aesthetic", 2, 1),
    ]


def test_the_evaluation_of_rewards_reads_what_was_exported(judged, tmp_path, picture):
    """Its parsers are of the official files, written by others."""
    formats: list[tuple[str, Any]] = [("imagereward", read_imagereward), ("hpdv2", read_hpdv2)]
    for format, read in formats:
        export(judged, tmp_path / format, format)
        found = read(tmp_path / format / f"{format}.json", tmp_path / format)
        (item,) = found.items
        assert set(decided_pairs(item.ranks)) == {(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)}
        assert found.read_images(item) == [picture(n) for n in range(4)]
    export(judged, tmp_path / "pairs.parquet", "image-pairs")
    found = read_pick_a_pic(tmp_path / "pairs.parquet", None)
    better = {}
    for item in found.items:
        ((one, other),) = decided_pairs(item.ranks)
        better[item.id] = (item.images[one], item.images[other])
        assert found.read_images(item)[one] == picture(int(item.images[one][1]))
    wanted = judged.dataset("image_preferences", ImagePreference)
    assert better == {one.id: (one.chosen_id, one.rejected_id) for one in wanted}


def test_what_a_ranking_cannot_hold_is_counted(run_with, tmp_path):
    circle = [preference(n, *pair) for n, pair in enumerate((("i0", "i1"), ("i1", "i2"), ("i2", "i0")))]
    with pytest.raises(PrefmillError, match="1 with contradictory preferences"):
        export(run_with(circle, folder="circle"), tmp_path / "out", "imagereward")
    assert not (tmp_path / "out").exists()
    only = [preference(0, "i0", "i1", "aesthetic")]
    with pytest.raises(PrefmillError, match="1 without an overall preference"):
        export(run_with(only, folder="only"), tmp_path / "out", "hpdv2")
    between = run_with([preference(0, "i0", "i2")], [said("i1", 3)], folder="between")
    report = export(between, tmp_path / "out", "imagereward")
    (row,) = json.loads((tmp_path / "out/imagereward.json").read_text())
    assert row["generations"] == ["images/i0.png", "images/i2.png", "images/i1.png"]
    assert (row["ranking"], report.untied) == ([1, 3, 2], 2)


def test_missing_images_and_preferences_are_named(run_with, tmp_path):
    with pytest.raises(PrefmillError, match="image gone"):
        export(run_with([preference(0, "i0", "gone")]), tmp_path / "out", "image-pairs")
    assert not (tmp_path / "out").exists()
    with pytest.raises(PrefmillError, match="no preferences between images"):
        export(run_with([], folder="none"), tmp_path / "out", "image-pairs")
    with pytest.raises(PrefmillError, match="no export format 'csv'"):
        export_command(tmp_path / "none", tmp_path / "out", "csv")


@pytest.mark.parametrize("format", ["imagereward", "hpdv2", "image-pairs"])
def test_an_export_imported_again_prefers_the_same_images(judged, format, tmp_path, bring, rows, picture):
    export(judged, tmp_path / "out", format)
    path = tmp_path / "out" if format == "image-pairs" else tmp_path / "out" / f"{format}.json"
    again = bring(tmp_path / "again", image_preferences=path)
    assert [prompt.text for prompt in rows(again, "prompts")] == ["text of p"]
    numbers = {picture(n): f"i{n}" for n in range(4)}
    images = {image.id: numbers[image.image] for image in rows(again, "candidates")}
    assert sorted(images.values()) == ["i0", "i1", "i2", "i3"]
    found = {(one.aspect, images[one.chosen_id], images[one.rejected_id]) for one in rows(again, "image_preferences")}
    wanted = {
        (one.aspect, one.chosen_id, one.rejected_id) for one in judged.dataset("image_preferences", ImagePreference)
    }
    assert found == (wanted if format == "image-pairs" else {one for one in wanted if one[0] == "overall"})
    if format == "image-pairs":
        made = {images[image.id]: (image.model, image.guidance, image.seed) for image in rows(again, "candidates")}
        assert made == {f"i{n}": (f"model{n // 2}", float(n), 10 + n) for n in range(4)}
        assert {one.margin for one in rows(again, "image_preferences")} == {1.0, 2.0}
