"""Every export is read by who it is for: the library itself where it is installed, else what its loader does.

Those that are not installed were read in their sources: hiyouga/LLaMA-Factory src/llamafactory/data/{parser,loader,
converter,mm_plugin}.py, modelscope/ms-swift swift/llm/dataset/preprocessor/core.py and template/vision_utils.py,
volcengine/verl verl/utils/dataset/{rl_dataset,vision_utils}.py, SalesforceAIResearch/DiffusionDPO train.py.
"""

import io
import json
import re
from collections import Counter
from typing import Any

import datasets
import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.exporting.export import export
from prefmill.pipeline.exporting.lineage import PAIR_COLUMNS
from prefmill.pipeline.records import ImagePreference, is_held_out
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run
from webdataset.compat import WebDataset

SHARE = 0.3
HELD_OUT = {n for n in range(12) if is_held_out(f"p{n}", SHARE)}
KEPT = [n for n in range(12) if n not in HELD_OUT]
SPLITS = {"train": KEPT, "test": sorted(HELD_OUT)}
ABOUT_3 = {
    **{"pair_id": "x3", "margin": 0.5, "chosen_score": 3.5, "rejected_score": 3.0, "scorer": "judge@1"},
    **{"chosen_model": "model-a", "rejected_model": "model-b", "chosen_responder": "a", "rejected_responder": "b"},
    **{"chosen_id": "a3", "rejected_id": "b3", "prompt_id": "p3", "image_prompt": "prompt 3", "topic": "<b>topic</b>"},
    **{"image_id": "i3", "image_model": "draws@1", "guidance": 6.0, "seed": 3, "steps": 16},
    **{"image_score": 0.75, "image_scorer": "reward@1", "split": "test" if 3 in HELD_OUT else "train"},
}


@pytest.fixture(scope="module")
def exported(told, tmp_path_factory):
    """Export the run in a format, with a part of it held out."""
    folder = tmp_path_factory.mktemp("exported")

    def write(format):
        if not (folder / format).exists():
            report = export(told, folder / format, format, eval_share=SHARE)
            assert report.rows == {split: len(rows) for split, rows in SPLITS.items()}
        return folder / format

    return write


def loaded(kind, pattern, cache) -> Any:
    return datasets.load_dataset(kind, data_files=str(pattern), split="train", cache_dir=str(cache))


def same_picture(found, wanted):
    return found.convert("RGB").tobytes() == Image.open(io.BytesIO(wanted)).convert("RGB").tobytes()


def picture_of(number, picture):
    return picture(number, format=("PNG", "JPEG", "WEBP")[number % 3])


def test_both_sides_have_rows():
    assert KEPT
    assert HELD_OUT
    assert ABOUT_3.keys() == PAIR_COLUMNS.keys()


@pytest.mark.parametrize("format", ["pds-dpo", "llava", "llama-factory", "ms-swift"])
def test_json_rows_say_where_they_come_from_and_their_images_are_in_the_folder(format, exported, picture):
    folder, found = exported(format), {}
    for path in folder.glob(f"{format}*"):
        text = path.read_text(encoding="utf-8")
        for row in json.loads(text) if path.suffix == ".json" else map(json.loads, text.splitlines()):
            found[row["pair_id"]] = row
    assert {name: found["x3"][name] for name in ABOUT_3} == ABOUT_3
    assert len(found) == 12
    for number in range(12):
        name = found[f"x{number}"].get("image") or found[f"x{number}"]["images"][0]
        assert (folder / name).read_bytes() == picture_of(number, picture)
        assert (folder / name).resolve().is_relative_to(folder.resolve())


def test_llama_factory_finds_its_data_set_and_reads_pairs_with_one_image_each(exported, tmp_path):
    folder = exported("llama-factory")
    info = json.loads((folder / "dataset_info.json").read_text())
    assert set(info) == {"prefmill", "prefmill_test"}
    for name, numbers in (("prefmill", SPLITS["train"]), ("prefmill_test", SPLITS["test"])):
        described = info[name]
        assert (described["formatting"], described["ranking"]) == ("sharegpt", True)
        columns = described["columns"]
        rows = loaded("json", folder / described["file_name"], tmp_path)  # loader.py, load_from "file"
        for row, number in zip(rows, numbers, strict=True):
            said = row[columns["messages"]]  # converter.py, SharegptDatasetConverter of a ranking data set
            assert [turn["from"] for turn in said] == ["human"]
            better, worse = row[columns["chosen"]], row[columns["rejected"]]
            assert (better, worse) == (
                {"from": "gpt", "value": f"chosen {number}"},
                {"from": "gpt", "value": f"rejected {number}"},
            )
            images = [folder / path for path in row[columns["images"]]]  # joined to media_dir
            assert all(path.is_file() for path in images)
            texts = [said[0]["value"], better["value"], worse["value"]]
            # mm_plugin.py refuses another count of placeholders than of images
            assert sum(text.count("<image>") for text in texts) == len(images) == 1


def test_ms_swift_reads_messages_and_the_rejected_response(exported, tmp_path, picture):
    folder = exported("ms-swift")
    standard = {"messages", "rejected_response", "images", "margin"}  # core.py drops every other column
    rows = loaded("json", folder / "ms-swift.jsonl", tmp_path).select_columns(sorted(standard))
    for row, number in zip(rows, KEPT, strict=True):
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert row["messages"][0]["content"].count("<image>") == len(row["images"]) == 1
        assert row["messages"][1]["content"] == f"chosen {number}"
        assert row["rejected_response"] == f"rejected {number}"  # must differ from the last message
        assert row["margin"] == 0.5
        path = folder / row["images"][0]  # vision_utils.load_file joins it to ROOT_IMAGE_DIR
        assert same_picture(Image.open(path), picture_of(number, picture))


def test_verl_builds_messages_and_images(exported, tmp_path, picture):
    folder = exported("verl")
    rows = loaded("parquet", folder / "train-00000.parquet", tmp_path)
    assert rows.features["images"] == datasets.List(datasets.Image())
    for row, number in zip(rows, KEPT, strict=True):
        (message,) = row["prompt"]
        parts = [part for part in re.split("(<image>|<video>)", message["content"]) if part]  # _build_messages
        assert Counter(parts)["<image>"] == len(row["images"]) == 1
        assert same_picture(row["images"][0], picture_of(number, picture))  # process_image takes PIL images
        assert row["reward_model"] == {"style": "rule", "ground_truth": f"chosen {number}"}
        assert row["data_source"] == "prefmill"
        assert row["extra_info"]["index"] == KEPT.index(number)
        assert row["extra_info"]["rejected"] == f"rejected {number}"
        if number == 3:
            assert {name: row["extra_info"][name] for name in ABOUT_3} == ABOUT_3


def test_webdataset_streams_images_and_pairs(exported, tmp_path, picture, told):
    folder = exported("webdataset")
    pairs: Any = WebDataset(str(folder / "train-00000.tar"), shardshuffle=False).decode("pil")
    found = list(pairs.to_tuple("png;jpg;webp", "json"))
    assert len(found) == len(KEPT)
    for (image, said), number in zip(found, KEPT, strict=True):
        assert same_picture(image, picture_of(number, picture))
        assert (said["chosen"], said["rejected"]) == (f"chosen {number}", f"rejected {number}")
        if number == 3:
            assert {name: said[name] for name in ABOUT_3} == ABOUT_3
    export(told, tmp_path / "again", "webdataset", eval_share=SHARE, shard_bytes=1)  # a pair a file
    assert len(list((tmp_path / "again").glob("train-*.tar"))) == len(KEPT)
    again = WebDataset(sorted(map(str, (tmp_path / "again").glob("train-*.tar"))), shardshuffle=False)
    assert [sample["json"] for sample in again] == [
        sample["json"] for sample in WebDataset(str(folder / "train-00000.tar"), shardshuffle=False)
    ]


def test_trl_rows_say_where_they_come_from(exported, tmp_path):
    found = {row["pair_id"]: row for row in loaded("parquet", exported("trl") / "*.parquet", tmp_path)}
    assert {name: found["x3"][name] for name in ABOUT_3} == ABOUT_3


def test_a_placeholder_that_a_text_spells_out_is_none(exported):
    texts = [json.loads(line) for path in exported("ms-swift").glob("*.jsonl") for line in path.open(encoding="utf-8")]
    (evil,) = [row["messages"][0]["content"] for row in texts if row["pair_id"] == "x1"]
    assert evil == "<image><script>alert(1)</script> image \x1b[31mred\x1b[0m | `x` ünï"


def test_diffusion_dpo_reads_the_better_image_first(told, tmp_path, picture):
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    for name in ("prompts", "candidates", "image_scores"):
        (run.folder / name).symlink_to(told.folder / name)
    preferences = [
        ImagePreference(f"id{n}", f"p{n}", f"prompt {n}", "overall", f"i{n}", f"i{n + 1}", 0.25) for n in range(6)
    ]
    (run.folder / "image_preferences").mkdir()
    write_shard(run.folder / "image_preferences", 0, 6, ImagePreference, preferences, Footer("w"))
    export(run, tmp_path / "out", "image-pairs", eval_share=SHARE)
    rows = loaded("parquet", tmp_path / "out" / "*.parquet", tmp_path)
    for row in rows:  # train.py, preprocess_train of train_method dpo
        number = int(row["id"][2:])
        images = [Image.open(io.BytesIO(row[name])).convert("RGB") for name in ("jpg_0", "jpg_1")]
        better, worse = images[::-1] if row["label_0"] == 0 else images
        assert same_picture(better, picture_of(number, picture))
        assert same_picture(worse, picture_of(number + 1, picture))
        best = 0 if row["label_0"] else 1
        assert (row[f"score_{best}"], row[f"guidance_{best}"]) == (number / 4, 5.0 + number % 2)
        assert (row["margin"], row["split"]) == (0.25, "test" if number in HELD_OUT else "train")


def test_a_side_without_a_prompt_is_refused(told, tmp_path):
    with pytest.raises(PrefmillError, match=r"--eval-share 1e-09 would hold out 0 of 12"):
        export(told, tmp_path / "out", "trl", eval_share=1e-9)
    with pytest.raises(PrefmillError, match="not between"):
        export(told, tmp_path / "out", "trl", eval_share=0.7)
    assert not (tmp_path / "out").exists()
