"""One pair is one pair in every format; what cannot be a pair is a reject."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefmill.pipeline.synthesis import SynthesisConfig, tasks_of

QUESTION, CHOSEN, REJECTED = "What is it?", "A red square.", " A dog. "


def conversation(answer):
    return [{"from": "human", "value": f"<image>\n{QUESTION}"}, {"from": "gpt", "value": answer}]


def message(role, text):
    return {"role": role, "content": text}


FORMATS = {
    "pds-dpo": {"conversations": conversation(CHOSEN), "rejected_conversations": conversation(REJECTED)},
    "llava": {
        "conversations": conversation("")[:1],
        "chosen": {"from": "gpt", "value": CHOSEN},
        "rejected": {"from": "gpt", "value": REJECTED},
    },
    "plain": {"prompt": QUESTION, "chosen": CHOSEN, "rejected": REJECTED},
    "question": {"question": QUESTION, "chosen": CHOSEN, "rejected": REJECTED},
    "messages": {
        "prompt": [message("user", QUESTION)],
        "chosen": [message("assistant", CHOSEN)],
        "rejected": [message("assistant", REJECTED)],
    },
    "parts": {
        "prompt": [message("user", [{"type": "image"}, {"type": "text", "text": QUESTION}])],
        "chosen": [message("assistant", [{"type": "text", "text": CHOSEN}])],
        "rejected": [message("assistant", [{"type": "text", "text": REJECTED}])],
    },
    "no prompt": {
        "chosen": [message("user", QUESTION), message("assistant", CHOSEN)],
        "rejected": [message("user", QUESTION), message("assistant", REJECTED)],
    },
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", ["rows.json", "rows.jsonl", "rows.parquet"])
def test_one_pair_in_every_format_is_one_pair(name, kind, tmp_path, bring, rows, write_lines, picture):
    (tmp_path / "a.png").write_bytes(picture(1))
    row, path = {"id": "one", "image": "a.png", **FORMATS[name]}, tmp_path / kind
    if kind == "rows.json":
        path.write_text(json.dumps([row], indent=1))
    elif kind == "rows.jsonl":
        write_lines(path, [row])
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    run = bring(tmp_path / "run", pairs=path)
    (candidate,), (pair,) = rows(run, "candidates"), rows(run, "pairs")
    assert candidate.image == picture(1)
    told = (pair.image_id, pair.instruction, pair.chosen, pair.rejected, pair.source)
    assert told == (candidate.id, QUESTION, CHOSEN, REJECTED, "one")
    assert tasks_of(run, SynthesisConfig()) == []


def test_rows_that_are_no_pairs(tmp_path, bring, rows, rejects, write_lines, picture):
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "bad.png").write_bytes(b"")
    good = {"image": "a.png", "prompt": QUESTION, "chosen": CHOSEN, "rejected": REJECTED}
    other = [message("user", "Another question?"), message("assistant", REJECTED)]
    cases = [
        (good, None),
        ({**good, "rejected": "Something else."}, None),  # a second pair of the same image
        (good, "duplicate"),
        ({**good, "rejected": " A red  square."}, "duplicate"),
        ({**good, "chosen": ""}, "empty_chosen"),
        ({**good, "rejected": " \n"}, "empty_rejected"),
        ({**good, "rejected": None}, "unsupported_conversation"),
        ({**good, "prompt": "<image>"}, "no_instruction"),
        ({**good, "prompt": [message("system", "Be kind."), message("user", QUESTION)]}, "unsupported_conversation"),
        ({**good, "prompt": None, "chosen": FORMATS["no prompt"]["chosen"], "rejected": other}, "question_mismatch"),
        ({**good, "image": "bad.png"}, "no_image"),
        ({**good, "image": "../a.png"}, "no_image"),
        ({**good, "image": None}, "no_image"),
        ({**good, "image": ["a.png", "a.png"]}, "several_images"),
        ("{", "invalid_json"),
    ]
    path = write_lines(tmp_path / "pairs.jsonl", [row for row, _ in cases])
    run = bring(tmp_path / "run", pairs=path)
    expected = {f"pairs.jsonl:{line}": reason for line, (_, reason) in enumerate(cases, 1) if reason}
    assert rejects(run, "pairs") == expected
    assert [pair.rejected for pair in rows(run, "pairs")] == [REJECTED, "Something else."]
    assert len(rows(run, "candidates")) == 1
    images = {"pairs.jsonl:11": "image_empty", "pairs.jsonl:12": "unsafe_path"}  # why those two have no image
    assert rejects(run, "candidates") == images
