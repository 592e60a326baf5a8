"""Exports load where they are meant to load, and come back as the pairs they were."""

import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.exporting.export import export
from prefmill.pipeline.records import Candidate, Pair, Reject
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run

TEXTS = ["plain", "two\nlines\r\nand a tab\t", 'quote " and \\', "Ünïcödé 🦋 \u2028 form\x0cfeed", "  spaces kept  "]


def picture(number, format="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (number * 20 % 256, 0, number)).save(buffer, format)
    return buffer.getvalue()


def run_of(folder, pairs, candidates=(), rejects=()):
    """Return a run that holds these pairs and candidates."""
    for name, record_type, records in (("pairs", Pair, pairs), ("candidates", Candidate, candidates)):
        (folder / name).mkdir(parents=True)
        footer = Footer("x", tuple(rejects) if name == "pairs" else ())
        write_shard(folder / name, 0, max(len(records), 1), record_type, records, footer)
    return Run(folder)


def candidate(name, number=0, source=None, format="PNG"):
    return Candidate(name, None, 8, 6, picture(number, format), "m", source=source)


def pair(name, image, text=""):
    return Pair(name, image, f"What is it?{text}", f"A red square.{text}", f"A dog.{text}")


@pytest.fixture
def awkward(tmp_path):
    """A run of texts and images that formats are known to damage."""
    images = [candidate(f"image{number}", number, format=("PNG", "JPEG", "WEBP")[number % 3]) for number in range(5)]
    return run_of(tmp_path / "run", [pair(f"p{n}", f"image{n}", text) for n, text in enumerate(TEXTS)], images)


@pytest.fixture(scope="module")
def published(shared, tmp_path_factory, bring):
    """The authors' file with its images beside it, and the run it was imported into."""
    folder, sample = tmp_path_factory.mktemp("published"), shared / "data/pdsdpo-sample"
    (folder / "images").mkdir()
    for line in (sample / "candidates.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["picked_by_imagereward"]:
            shutil.copyfile(sample / row["image"], folder / "images" / f"{row['prompt_id']}.jpg")
    shutil.copyfile(sample / "pds_dpo_format.json", folder / "pairs.json")
    return folder, bring(folder / "run", pairs=folder / "pairs.json")


def test_the_published_file_goes_through_a_run_unchanged(published, tmp_path):
    folder, run = published
    report = export(run, tmp_path / "out", "pds-dpo")
    exported = json.loads((tmp_path / "out/pds-dpo.json").read_text(encoding="utf-8"))
    original = {row["id"]: row for row in json.loads((folder / "pairs.json").read_text(encoding="utf-8"))}
    unusable = {name for name, row in original.items() if not row["rejected_conversations"][1]["value"]}
    assert [row["id"] for row in exported] == [name for name in original if name not in unusable]
    assert (report.rows, report.images, report.path) == ({"train": 8}, 8, tmp_path / "out")
    for row in exported:
        for side in ("conversations", "rejected_conversations"):
            assert row[side] == original[row["id"]][side]
        data = (tmp_path / "out" / row["image"]).read_bytes()
        assert data == (folder / original[row["id"]]["image"]).read_bytes()
        kind = Image.open(io.BytesIO(data)).format  # the original names call WebP files .jpg
        assert row["image"] == f"images/{row['id']}.{ {'WEBP': 'webp', 'JPEG': 'jpg'}[kind or ''] }"


@pytest.mark.parametrize(("format", "name"), [("trl", "out.parquet"), ("trl", "out"), ("pds-dpo", "out")])
def test_an_export_imported_again_is_the_same_pairs(format, name, published, tmp_path, bring, rows):
    _, run = published
    export(run, tmp_path / name, format)
    path = tmp_path / name / "pds-dpo.json" if format == "pds-dpo" else tmp_path / name
    again = bring(tmp_path / "again", pairs=path)
    assert rows(again, "pairs") == rows(run, "pairs")
    used = {pair.image_id for pair in rows(run, "pairs")}
    images = {image.id: image.image for image in rows(run, "candidates") if image.id in used}
    assert {image.id: image.image for image in rows(again, "candidates")} == images


def test_trl_accepts_the_columns_and_datasets_decodes_the_images(awkward, tmp_path):
    import datasets
    from trl.data_utils import is_conversational, prepare_multimodal_messages

    export(awkward, tmp_path / "out.parquet", "trl")
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "out.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.column_names[:5] == ["id", "images", "prompt", "chosen", "rejected"]
    assert loaded.features["images"] == datasets.List(datasets.Image())
    for number, row in enumerate(loaded):
        assert isinstance(row, dict)
        (image,) = row["images"]
        expected = Image.open(io.BytesIO(picture(number, ("PNG", "JPEG", "WEBP")[number % 3]))).convert("RGB")
        assert image.convert("RGB").tobytes() == expected.tobytes()
        assert is_conversational(row)
        (message,) = prepare_multimodal_messages(row["prompt"], images=row["images"])
        assert [part["type"] for part in message["content"]] == ["image", "text"]
        assert message["content"][1]["text"] == f"What is it?{TEXTS[number]}"
        assert row["chosen"] == [{"role": "assistant", "content": f"A red square.{TEXTS[number]}"}]
        assert row["rejected"] == [{"role": "assistant", "content": f"A dog.{TEXTS[number]}"}]


def test_a_large_run_becomes_a_folder_of_shards_that_loads_in_order(awkward, tmp_path):
    import datasets

    export(awkward, tmp_path / "out", "trl", shard_bytes=2 * len(picture(0)))
    assert len(list((tmp_path / "out").glob("*.parquet"))) > 1
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["id"][:] == [f"p{number}" for number in range(5)]


@pytest.mark.parametrize("format", ["trl", "pds-dpo"])
def test_awkward_texts_survive_there_and_back(format, awkward, tmp_path, bring, rows):
    export(awkward, tmp_path / "out", format)
    path = tmp_path / "out/pds-dpo.json" if format == "pds-dpo" else tmp_path / "out"
    back = rows(bring(tmp_path / "again", pairs=path), "pairs")
    assert [(p.chosen, p.rejected) for p in back] == [(f"A red square.{t}", f"A dog.{t}") for t in TEXTS]
    assert [p.instruction for p in back] == [f"What is it?{text}".strip() for text in TEXTS]


def test_llava_export_is_the_chosen_answer_and_comes_back_as_answers(awkward, tmp_path, bring, rows):
    export(awkward, tmp_path / "out", "llava")
    first, *_ = json.loads((tmp_path / "out/llava.json").read_text(encoding="utf-8"))
    assert {name: first[name] for name in ("id", "image", "conversations")} == {
        "id": "p0",
        "image": "images/image0.png",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?plain"},
            {"from": "gpt", "value": "A red square.plain"},
        ],
    }
    back = bring(tmp_path / "again", answers=tmp_path / "out/llava.json")
    assert [row.text for row in rows(back, "responses-imported")] == [f"A red square.{t}" for t in TEXTS]
    assert len(rows(back, "instructions")) == 5


def test_several_pairs_of_an_image_share_its_file(tmp_path):
    pairs = [pair("p0", "a"), pair("p1", "b"), pair("p2", "a", "?")]
    report = export(run_of(tmp_path / "run", pairs, [candidate("a", 1), candidate("b", 2)]), tmp_path / "out", "llava")
    assert (report.rows, report.images) == ({"train": 3}, 2)
    exported = json.loads((tmp_path / "out/llava.json").read_text())
    assert [row["image"] for row in exported] == ["images/a.png", "images/b.png", "images/a.png"]


def test_file_names_are_safe_and_never_shared(tmp_path):
    sources = [
        "x/art-1.jpg",
        "y/art-1.png",
        "../../etc/passwd",
        "ART-1.png",
        "..",
        "новый.png",
        None,
        "a b?.png",
        "x" * 300,
    ]
    images = [candidate(f"{number}0123456789abcdef", number, source) for number, source in enumerate(sources)]
    run = run_of(tmp_path / "run", [pair(f"p{n}", image.id) for n, image in enumerate(images)], images)
    export(run, tmp_path / "out", "pds-dpo")
    exported = json.loads((tmp_path / "out/pds-dpo.json").read_text())
    names = [row["image"] for row in exported]
    assert names[0] == "images/art-1.png"
    assert len({name.lower() for name in names}) == len(sources)
    assert all(len(name) < 130 and name.isascii() and name.count("/") == 1 and ".." not in name for name in names)
    files = [path for path in (tmp_path / "out/images").rglob("*") if path.is_file()]
    assert len(files) == len(sources)
    assert [(tmp_path / "out" / name).read_bytes() for name in names] == [image.image for image in images]


@pytest.mark.parametrize("format", ["trl", "pds-dpo", "llava"])
def test_nothing_is_overwritten(format, awkward, tmp_path):
    output = tmp_path / "out.parquet"
    for make in (output.touch, output.mkdir, lambda: output.symlink_to(tmp_path / "nowhere")):
        make()
        with pytest.raises(PrefmillError, match="exists already") as caught:
            export(awkward, output, format)
        assert "--to" in caught.value.fix
        output.rmdir() if output.is_dir() else output.unlink()


def test_no_pairs_is_an_error_that_says_why(tmp_path):
    rejects = [Reject("a", "pairs", "tie"), Reject("b", "pairs", "tie"), Reject("c", "pairs", "echo")]
    run = run_of(tmp_path / "run", [], rejects=rejects)
    with pytest.raises(PrefmillError, match=r"no pairs \(rejected: 2 tie, 1 echo\)"):
        export(run, tmp_path / "out", "trl")
    with pytest.raises(PrefmillError, match="no pairs"):
        export(Run(tmp_path / "nothing"), tmp_path / "out", "trl")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("format", "name"), [("trl", "out.parquet"), ("trl", "out"), ("pds-dpo", "out")])
def test_a_failed_export_leaves_nothing_and_a_killed_one_is_no_obstacle(format, name, tmp_path):
    run = run_of(tmp_path / "run", [pair("p0", "a"), pair("p1", "lost")], [candidate("a")])
    (tmp_path / "target").mkdir()
    with pytest.raises(PrefmillError, match="image lost"):
        export(run, tmp_path / "target" / name, format)
    assert not list((tmp_path / "target").iterdir())
    (tmp_path / "target" / f".tmp-{name}").mkdir()  # what SIGKILL leaves
    (tmp_path / "target" / f".tmp-{name}" / "half").write_bytes(b"half")
    whole = run_of(tmp_path / "whole", [pair("p0", "a")], [candidate("a")])
    assert export(whole, tmp_path / "target" / name, format).rows == {"train": 1}
    assert [path.name for path in (tmp_path / "target").iterdir()] == [name]


def test_a_place_that_cannot_be_written_is_named(awkward, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PrefmillError, match="cannot write"):
        export(awkward, tmp_path / "file/out", "trl")


@pytest.mark.parametrize("name", ["~nosuchuser/out", "x" * 300, "a\0b"])
def test_what_is_no_path_is_named_with_its_option(name, awkward, tmp_path):
    with pytest.raises(PrefmillError, match=r"--to|cannot write"):
        export(awkward, tmp_path / name if name[0] != "~" else Path(name), "pds-dpo")


@pytest.mark.parametrize("format", ["trl", "pds-dpo", "llava"])
@pytest.mark.parametrize("stage", ["pairs", "candidates"])
def test_damaged_rows_end_an_export_with_their_file_and_leave_nothing(format, stage, tmp_path):
    run = run_of(tmp_path / "run", [pair("p0", "a")], [candidate("a")])
    (shard,) = (run.folder / stage).glob("*.parquet")
    whole = shard.read_bytes()
    (tmp_path / "target").mkdir()
    for start in range(4, len(whole) - 8, 97):
        shard.write_bytes(whole[:start] + bytes(byte ^ 0x5A for byte in whole[start : start + 8]) + whole[start + 8 :])
        try:
            export(Run(run.folder), tmp_path / "target/out", format)
        except PrefmillError as error:
            assert error.fix  # noqa: PT017 - some bytes are padding, and their damage is none
        else:
            shutil.rmtree(tmp_path / "target/out")
        assert not list((tmp_path / "target").iterdir())
