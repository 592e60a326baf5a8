"""Imports of the published sample; continuing, repeating and refusing them."""

import hashlib
import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.tables import pipes
from prefmill.pipeline.synthesis import SynthesisConfig, is_imported, tasks_of


@pytest.fixture(scope="module")
def sample(shared):
    return shared / "data/pdsdpo-sample"


@pytest.fixture(scope="module")
def imported(sample, tmp_path_factory, bring):
    names = {"prompts": "prompts.jsonl", "images": "candidates.jsonl", "answers": "responses.jsonl"}
    return bring(tmp_path_factory.mktemp("run"), **{key: sample / name for key, name in names.items()})


def test_forty_real_images_arrive_with_their_bytes_and_settings(imported, sample, rows, rejects, lines_of):
    told = {row["image"]: row for row in lines_of(sample / "candidates.jsonl")}
    names = {prompt.id: prompt.source for prompt in rows(imported, "prompts")}
    candidates = rows(imported, "candidates")
    assert len(candidates) == 40
    assert not rejects(imported, "candidates")
    for candidate in candidates:
        row = told[candidate.source]
        assert hashlib.sha256(candidate.image).digest() == hashlib.sha256((sample / row["image"]).read_bytes()).digest()
        assert (candidate.width, candidate.height) == (1024, 1024)
        assert (candidate.seed, candidate.guidance) == (row["seed"], row["guidance"])
        assert (names[candidate.prompt_id], candidate.model) == (row["prompt_id"], "imported")


def test_thirty_real_answers_are_about_the_picked_images(imported, sample, rows, lines_of):
    picked = {
        row["prompt_id"]: row["image"] for row in lines_of(sample / "candidates.jsonl") if row["picked_by_imagereward"]
    }
    sources = {candidate.id: candidate.source for candidate in rows(imported, "candidates")}
    asked = {row["id"]: row["instruction"] for row in lines_of(sample / "prompts.jsonl")}
    instructions = {instruction.id: instruction for instruction in rows(imported, "instructions")}
    told = lines_of(sample / "responses.jsonl")
    responses = rows(imported, "responses-imported")
    assert len(instructions) == 10
    for response, row in zip(responses, told, strict=True):
        instruction = instructions[response.instruction_id]
        assert (response.model, response.text) == (row["model"], row["raw_text"])
        assert sources[response.image_id] == picked[row["prompt_id"]]
        assert (instruction.image_id, instruction.text) == (response.image_id, asked[row["prompt_id"]])


def test_a_run_begins_after_what_was_imported(imported):
    assert all(is_imported(imported, stage) for stage in ("prompts", "candidates", "instructions"))
    names = [task.name for task in tasks_of(imported, SynthesisConfig())]
    assert names == ["image_scores", "response_scores", "pairs"]


def test_the_published_pairs_without_an_answer_are_not_imported(sample, tmp_path, bring, rows, rejects, lines_of):
    (tmp_path / "images").mkdir()
    for row in lines_of(sample / "candidates.jsonl"):
        if row["picked_by_imagereward"]:
            shutil.copyfile(sample / row["image"], tmp_path / "images" / f"{row['prompt_id']}.jpg")
    run = bring(tmp_path / "run", pairs=sample / "pds_dpo_format.json", root=tmp_path)
    published = json.loads((sample / "pds_dpo_format.json").read_text(encoding="utf-8"))
    empty = [number for number, row in enumerate(published, 1) if not row["rejected_conversations"][1]["value"]]
    assert rejects(run, "pairs") == {f"pds_dpo_format.json:{number}": "empty_rejected" for number in empty}
    kept = [row for number, row in enumerate(published, 1) if number not in empty]
    for pair, row in zip(rows(run, "pairs"), kept, strict=True):
        assert pair.chosen == row["conversations"][1]["value"]
        assert pair.rejected == row["rejected_conversations"][1]["value"]
        assert f"<image> {pair.instruction}" == row["conversations"][0]["value"]
        assert pair.source == row["id"]


def test_the_same_import_again_finds_everything_done(few, tmp_path, bring, recorder):
    paths = {name: few / f"{name}.jsonl" for name in ("prompts", "images", "answers")}
    bring(tmp_path / "run", **paths)
    again = recorder()
    bring(tmp_path / "run", again, **paths)
    bring(tmp_path / "run", again, answers=few / "answers.jsonl")  # alone: the picked images are remembered
    assert not again.worked


def test_an_interrupted_import_continues_to_the_same_rows(
    few, tmp_path, bring, rows, rejects, write_lines, picture, recorder
):
    names = []
    for number in range(40):
        (few / "images" / f"more{number:02}.png").write_bytes(picture(number, (9, 9)))
        names.append({"prompt_id": "cat", "image": f"images/more{number:02}.png"})
    write_lines(few / "images.jsonl", [*names, names[0], {"prompt_id": "cat", "image": "gone.png"}])
    paths = {name: few / f"{name}.jsonl" for name in ("prompts", "images")}
    whole = bring(tmp_path / "whole", **paths)
    with pytest.raises(KeyboardInterrupt):
        bring(tmp_path / "run", recorder(stop_at="candidates"), **paths)
    rest = recorder()
    run = bring(tmp_path / "run", rest, **paths)
    assert 0 < rest.worked["candidates"] < 42
    assert rows(run, "candidates") == rows(whole, "candidates")
    assert rejects(run, "candidates") == {"images.jsonl:41": "duplicate", "images.jsonl:42": "file_missing"}


def test_the_same_files_elsewhere_have_the_same_fingerprints_and_no_path_is_kept(few, tmp_path, bring, rows):
    paths = ("prompts", "images", "answers")
    here = bring(tmp_path / "here", **{name: few / f"{name}.jsonl" for name in paths})
    shutil.copytree(few, tmp_path / "elsewhere")
    there = bring(tmp_path / "there", **{name: tmp_path / "elsewhere" / f"{name}.jsonl" for name in paths})
    for stage in ("prompts", "candidates", "instructions", "responses-imported"):
        assert here.manifest(stage)["fingerprint"] == there.manifest(stage)["fingerprint"]
        assert rows(here, stage) == rows(there, stage)
        assert str(tmp_path) not in json.dumps(here.manifest(stage))
    told = here.manifest("candidates")["config"]["imported"]
    assert told["sha256"] == hashlib.sha256((few / "images.jsonl").read_bytes()).hexdigest()


def test_an_image_that_was_replaced_is_read_again(few, tmp_path, bring, rows, picture):
    run = bring(tmp_path / "run", prompts=few / "prompts.jsonl", images=few / "images.jsonl")
    before = {candidate.source: candidate.id for candidate in rows(run, "candidates")}
    (few / "images/2.png").write_bytes(picture(99, (20, 20)))
    run = bring(tmp_path / "run", prompts=few / "prompts.jsonl", images=few / "images.jsonl")
    after = {candidate.source: candidate.id for candidate in rows(run, "candidates")}
    assert {source for source in before if before[source] != after[source]} == {"images/2.png"}


def test_other_files_are_refused_before_anything_is_written(few, tmp_path, bring):
    bring(tmp_path / "run", images=few / "images")
    (few / "other.jsonl").write_text('{"image": "images/0.png"}\n')
    with pytest.raises(PrefmillError, match=r"candidates imported from images \(folder.*from other\.jsonl") as caught:
        bring(tmp_path / "run", prompts=few / "prompts.jsonl", images=few / "other.jsonl")
    assert "--to" in caught.value.fix
    assert not (tmp_path / "run/prompts").exists()


def test_a_stage_that_the_run_made_itself_is_not_overwritten(few, tmp_path, bring):
    (tmp_path / "run/candidates").mkdir(parents=True)
    (tmp_path / "run/candidates/_manifest.json").write_text('{"config": {"model": "sd3"}, "fingerprint": "x"}')
    with pytest.raises(PrefmillError, match="candidates that it made itself"):
        bring(tmp_path / "run", images=few / "images")


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ({}, "nothing to import"),
        ({"pairs": "a.json", "images": "b"}, "pairs bring their own images"),
        ({"images": "nowhere.jsonl"}, "nowhere.jsonl does not exist"),
        ({"images": "few/prompts.jsonl"}, "fields id, text, instruction"),
        ({"answers": "few/images.jsonl"}, "fields prompt_id, image, picked"),
        ({"answers": "pairs.json"}, "preference pairs (trl)"),
        ({"images": "few/images/0.png"}, "PNG image, not a table"),
        ({"images": "empty"}, "no images"),
        ({"pairs": "pairs.json", "format": "pds-dpo"}, "holds trl rows, not pds-dpo"),
        ({"pairs": "broken.json"}, "not valid JSON"),
        ({"pairs": "broken.jsonl"}, "no readable row"),
        ({"pairs": "object.json"}, "holds a dict, not a list"),
        ({"pairs": "cut.parquet"}, "cannot read"),
        ({"pairs": "nothing.jsonl"}, "holds no rows"),
        ({"pairs": "pairs.json", "root": "nowhere"}, "not a folder"),
    ],
)
def test_inputs_that_cannot_be_read_at_all_are_named(paths, said, few, tmp_path, monkeypatch, bring):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("pairs.json").write_text('[{"image": "a.png", "prompt": "q", "chosen": "a", "rejected": "b"}]')
    Path("broken.json").write_text('[{"id": 1}')
    Path("broken.jsonl").write_text("not json\n")
    Path("object.json").write_text('{"id": 1}')
    Path("cut.parquet").write_bytes(b"PAR1....")
    Path("nothing.jsonl").write_text("\n\n")
    with pytest.raises(PrefmillError) as caught:
        bring("run", **paths)
    assert said in caught.value.message
    assert caught.value.fix
    assert not list(Path().glob("run/*/*"))


def test_tables_through_pipes_are_imported_whole_and_one_without_a_writer_is_given_up(
    few, tmp_path, bring, rows, monkeypatch
):
    monkeypatch.setattr(pipes, "PATIENCE", 0.2)
    os.mkfifo(few / "pipe")
    for option in ("prompts", "answers", "pairs", "images"):
        with pytest.raises(PrefmillError, match="nobody has written"):
            bring(tmp_path / "run", **{option: few / "pipe"})
    plain = {name: few / f"{name}.jsonl" for name in ("prompts", "images", "answers")}
    writer = threading.Thread(target=(few / "pipe").write_bytes, args=(plain["answers"].read_bytes(),), daemon=True)
    writer.start()
    piped = bring(tmp_path / "piped", **{**plain, "answers": few / "pipe"})
    writer.join(5)
    assert not writer.is_alive()
    assert rows(piped, "responses-imported") == rows(bring(tmp_path / "run", **plain), "responses-imported")


@pytest.mark.parametrize("option", ["prompts", "images", "answers", "pairs", "root"])
@pytest.mark.parametrize("path", ["~nosuchuser/a.jsonl", "x" * 300])
def test_what_is_no_path_is_named_with_its_option(option, path, few, tmp_path, bring):
    given = {"images": few / "images", option: path} if option != "pairs" else {option: path}
    with pytest.raises(PrefmillError, match=f"--{option}"):
        bring(tmp_path / "run", **given)
