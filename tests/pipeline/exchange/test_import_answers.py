"""An answer finds its image, or says why it cannot; nothing is joined by position."""

import json
import shutil

from prefmill.pipeline.records import Response, Selection
from prefmill.pipeline.shards import Footer, write_shard


def test_every_way_to_name_an_image_and_to_miss_it(few, tmp_path, bring, rows, rejects, write_lines, picture):
    (few / "images/4.png").write_bytes(picture(4))
    extra = {"image": "images/4.png", "prompt": "no picks here", "id": "fourth"}
    table = [json.loads(line) for line in (few / "images.jsonl").read_text().splitlines()]
    table += [{**row, "prompt_id": "owl", "prompt": "an owl", "picked": False} for row in table[:2]]
    write_lines(few / "images.jsonl", [{"prompt": f"a {row['prompt_id']}", **row} for row in table] + [extra])
    first = bring(tmp_path / "first", images=few / "images.jsonl")
    identity = next(c.id for c in rows(first, "candidates") if c.source == "images/2.png")
    answers = [
        {"prompt_id": "cat", "text": "the picked one", "question": "Which?"},
        {"image": "images/0.png", "prompt_id": "cat", "answer": "by its path", "instruction": "<image>\nWhich?"},
        {"image_id": identity, "response": "by its id", "question": "Which?"},
        {"image": "fourth", "raw_text": "by its own name", "question": "Which?"},
        {"prompt_id": "owl", "text": "two and none picked", "question": "Which?"},
        {"image": "images/0.png", "text": "two prompts share this path", "question": "Which?"},
        {"image": "images/9.png", "text": "no such image", "question": "Which?"},
        {"prompt_id": "cow", "text": "no such prompt", "question": "Which?"},
        {"text": "about what?", "question": "Which?"},
        {"prompt_id": "cat", "text": "asked what?"},
        {"prompt_id": "cat", "model": "mute", "text": " ", "question": "Which?"},
        {"prompt_id": "cat", "question": "Which?"},
        {"prompt_id": "cat", "text": ["the picked one"], "question": "Which?"},
        "{",
        {"prompt_id": "cat", "text": "the picked one", "question": "Which?"},
    ]
    paths = {"images": few / "images.jsonl", "answers": write_lines(few / "answers.jsonl", answers)}
    run = bring(tmp_path / "run", **paths)
    sources = {candidate.id: candidate.source for candidate in rows(run, "candidates")}
    about = {response.text: sources[response.image_id] for response in rows(run, "responses-imported")}
    assert about == {
        "the picked one": "images/1.png",
        "by its path": "images/0.png",
        "by its id": "images/2.png",
        "by its own name": "images/4.png",
    }
    assert {instruction.text for instruction in rows(run, "instructions")} == {"Which?"}
    assert list(rejects(run, "responses-imported").values()) == [
        "ambiguous_image",
        "ambiguous_image",
        "unknown_image",
        "unknown_prompt",
        "no_image",
        "no_instruction",
        "empty",
        "no_text",
        "no_text",
        "invalid_json",
        "duplicate",
    ]
    details = {reject.reason: reject.detail for reject in run.dataset("responses-imported", Response).rejects()}
    assert "mute" in details["empty"]
    assert "image_id" in details["ambiguous_image"]


def test_answers_follow_the_runs_own_selection_over_the_picks_of_the_table(few, tmp_path, bring, rows):
    run = bring(tmp_path / "run", prompts=few / "prompts.jsonl", images=few / "images.jsonl")
    candidates = {candidate.source: candidate for candidate in rows(run, "candidates")}
    chosen = candidates["images/0.png"]  # the table picked images/1.png
    (tmp_path / "run/selections").mkdir()
    selection = Selection(chosen.prompt_id, chosen.id, 0.5)
    write_shard(tmp_path / "run/selections", 0, 1, Selection, [selection], Footer("x"))
    run = bring(tmp_path / "run", answers=few / "answers.jsonl")
    about = {response.text: response.image_id for response in rows(run, "responses-imported")}
    assert about == {"The cat there.": chosen.id, "The dog there.": candidates["images/3.png"].id}


def test_several_answers_share_one_instruction(few, tmp_path, bring, rows, write_lines):
    answers = [{"prompt_id": "cat", "model": f"m{number}", "text": "The same words."} for number in range(3)]
    write_lines(few / "answers.jsonl", [*answers, {"prompt_id": "cat", "text": "Other.", "question": "What else?"}])
    run = bring(tmp_path / "run", **{name: few / f"{name}.jsonl" for name in ("prompts", "images", "answers")})
    assert [instruction.text for instruction in rows(run, "instructions")] == ["Which cat?", "What else?"]
    assert len({response.id for response in rows(run, "responses-imported")}) == 4
    assert {instruction.source for instruction in rows(run, "instructions")} == {"imported"}


def test_llava_conversations_are_answers_about_the_images_they_name(tmp_path, bring, rows, rejects, picture, recorder):
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    shutil.copyfile(tmp_path / "0.png", tmp_path / "copy.png")

    def said(image, *turns):
        return {"image": image, "conversations": [{"from": who, "value": what} for who, what in turns]}

    items = [
        said("0.png", ("human", "<image>\nWhat is it?"), ("gpt", "A square.")),
        said("1.png", ("human", "What is it?\n<image>"), ("gpt", "Another.")),
        said("copy.png", ("human", "<image>\nWhat is it?"), ("gpt", "A copy.")),
        said("0.png", ("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d")),
        said("missing.png", ("human", "<image>\nWhat is it?"), ("gpt", "Gone.")),
        {"conversations": said("", ("human", "Text only?"), ("gpt", "Yes."))["conversations"]},
    ]
    (tmp_path / "llava.json").write_text(json.dumps(items))
    run = bring(tmp_path / "run", answers=tmp_path / "llava.json")
    images = {candidate.id: candidate.source for candidate in rows(run, "candidates")}
    about = {response.text: images[response.image_id] for response in rows(run, "responses-imported")}
    assert about == {"A square.": "0.png", "Another.": "1.png", "A copy.": "0.png"}
    assert {instruction.text for instruction in rows(run, "instructions")} == {"What is it?"}
    assert rejects(run, "responses-imported") == {
        "llava.json:4": "unsupported_conversation",
        "llava.json:5": "file_missing",
        "llava.json:6": "no_image",
    }
    again = recorder()
    bring(tmp_path / "run", again, pairs=tmp_path / "llava.json")  # no rejected side: the same answers
    assert not again.worked
