"""The report shows what is in the run, and nothing that a model wrote can become markup."""

import json

import numpy as np
import pytest
from prefmill.engine.images import encode_image
from prefmill.pipeline.records import Candidate, Instruction, Pair, Prompt, Reject, Response, Score, Selection
from prefmill.pipeline.report import write_report
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run

MANIFEST = {"complete": True, "inputs": 1, "outputs": 1, "rejects": {}, "models": [], "seconds": 1.0, "cost": None}
PICTURE = encode_image(np.full((8, 8, 3), 200, dtype=np.uint8))
EVIL = "<script>alert('x')</script> a boat & a \"kite\""


@pytest.fixture
def run(tmp_path):
    rows = {
        "prompts": [Prompt("p", 1, EVIL, "s")],
        "candidates": [
            Candidate(f"c{n}", "p", 8, 8, PICTURE, "model", guidance=scale) for n, scale in enumerate((5.0, 7.5))
        ],
        "image_scores": [Score("c0", "reward", 0.25), Score("c1", "reward", 1.5)],
        "selections": [Selection("p", "c1", 1.5, 1.25)],
        "instructions": [Instruction("i", "c1", EVIL, "field")],
        "responses-a": [
            Response(f"r{n}", "c1", "i", EVIL, text) for n, text in enumerate((EVIL, "good", "bad", "junk"))
        ],
        "response_scores": [Score(f"r{n}", "judge", float(n)) for n in range(3)],
        "pairs": [Pair("pair", "c1", EVIL, "good", "bad", "r1", "r2", 1.0)],
    }
    for name, records in rows.items():
        (tmp_path / name).mkdir()
        rejects = (Reject("r3", "pairs", "repetition"),) if name == "pairs" else ()
        write_shard(tmp_path / name, 0, 1, type(records[0]), records, Footer("w", rejects))
        Run(tmp_path).write_manifest(name, {**MANIFEST, "config": {}, "notices": []})
    return Run(tmp_path)


def test_what_models_wrote_is_escaped(run):
    page = write_report(run).read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 3  # the prompt, the instruction, the answer


def test_marked_words_are_the_only_markup_in_an_answer(run):
    page = write_report(
        run, lambda image, text: ["boat", "kite"] if image == PICTURE and "boat" in text else []
    ).read_text()
    assert "<mark>boat</mark> &amp; a &#34;<mark>kite</mark>&#34;" in page
    assert "<script" not in page


def test_images_scores_and_fates_are_shown(run):
    page = write_report(run).read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert page.index("guidance 5") < page.index("score 0.250") < page.index("guidance 7.5") < page.index("score 1.500")
    assert page.count("selected</b>") == 1
    assert 'class="answer chosen"' in page
    assert 'class="answer rejected"' in page
    assert "set aside: repetition" in page
    assert "100 % (1)" in page  # the one selection had guidance 7.5


def test_training_and_results_are_shown_where_they_are(run):
    (run.folder / "training").mkdir()
    steps = [{"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.3}]
    (run.folder / "training" / "metrics.jsonl").write_text("\n".join(map(json.dumps, steps)) + "\n")
    page = write_report(run).read_text()
    assert 'points="0.0,0.0 600.0,160.0"' in page
    assert "0.7000 at the first step, 0.3000 at the last" in page
    assert "Did training help?" not in page
