"""Other people's data to a trained adapter: the 40 real images and 30 real answers, at full resolution."""

import json

import pytest
from prefmill.engine.images import decode_image
from prefmill.engine.tiny.catalogue import build_responder
from prefmill.pipeline.records import Candidate, Pair, Response, Score
from prefmill.pipeline.store import Run

JUNK = {"art-2": "echo", "art-3": "echo", "art-4": "wrong_language", "art-5": "repetition"}


@pytest.fixture(scope="module")
def imported(shared, command, tmp_path_factory):
    folder, sample = tmp_path_factory.mktemp("import"), shared / "data" / "pdsdpo-sample"
    policy = build_responder(folder / "policy", image_size=336)  # LLaVA-1.5's resolution: 576 image tokens
    given = {"prompts": "prompts.jsonl", "images": "candidates.jsonl", "answers": "responses.jsonl"}
    options = [part for name, file in given.items() for part in (f"--{name}", sample / file)]
    command("import", "--to", folder / "run", *options, "--json")
    settings = ["responders=[]", "pair.same_language=true", f"train.model={policy}", "train.max_steps=2"]
    options = [part for setting in settings for part in ("--set", setting)]
    return Run.open(folder / "run"), command("run", "tiny", "--to", folder / "run", *options, "--json")


def test_all_images_arrive_whole_and_all_are_scored(imported, shared):
    run, _ = imported
    candidates = list(run.dataset("candidates", Candidate))
    files = sorted((shared / "data/pdsdpo-sample/images").iterdir())
    assert sorted(candidate.image for candidate in candidates) == sorted(file.read_bytes() for file in files)
    assert {(candidate.width, candidate.height) for candidate in candidates} == {(1024, 1024)}
    assert {decode_image(candidate.image).size for candidate in candidates[::13]} == {(1024, 1024)}
    scored = {score.subject_id for score in run.dataset("image_scores", Score)}
    assert scored == {candidate.id for candidate in candidates}


def test_junk_is_rejected_by_name_and_the_other_answers_are_used(imported, shared):
    run, _ = imported
    raw = [json.loads(line) for line in (shared / "data/pdsdpo-sample/responses.jsonl").read_text().splitlines()]
    responses = list(run.dataset("responses-imported", Response))
    assert [response.text for response in responses] == [row["raw_text"] for row in raw]
    owner = {response.id: row["prompt_id"] for response, row in zip(responses, raw, strict=True)}
    published = {response.id: row["armorm_pick"] for response, row in zip(responses, raw, strict=True)}
    rejects = {owner[reject.subject_id]: reject for reject in run.dataset("pairs", Pair).rejects()}
    assert {prompt: reject.reason for prompt, reject in rejects.items()} == JUNK
    assert {published[reject.subject_id] for reject in rejects.values()} == {"rejected"}
    pairs = list(run.dataset("pairs", Pair))
    assert {owner[pair.chosen_id] for pair in pairs} == {row["prompt_id"] for row in raw}
    used = {identity for pair in pairs for identity in (pair.chosen_id, pair.rejected_id)}
    assert not used & {reject.subject_id for reject in rejects.values()}


def test_the_adapter_is_trained_on_the_ten_pairs(imported):
    run, result = imported
    assert result["training"]["pairs"] == 10
    assert result["training"]["steps"] == 2
    metrics = [json.loads(line) for line in (run.folder / "training" / "metrics.jsonl").read_text().splitlines()]
    # 576 image tokens, read once for both answers of each of four pairs
    assert 4 * 576 < sum(line["tokens"] for line in metrics) < 2 * 4 * 576
    stages = json.loads((run.folder / "training" / "manifest.json").read_text())["stages"]
    assert stages["candidates"]["fingerprint"] == run.manifest("candidates")["fingerprint"]
