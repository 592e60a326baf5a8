"""The report shows what is in the run, and nothing that a model wrote can become markup."""

import errno
import json
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import escape
from prefmill.base.errors import PrefmillError
from prefmill.engine.images import encode_image
from prefmill.pipeline import dataset, report
from prefmill.pipeline.ledger import DeviceLedger, DeviceTime
from prefmill.pipeline.records import Candidate, Instruction, Pair, Prompt, Reject, Response, Score, Selection
from prefmill.pipeline.report import write_report
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run
from prefmill.pipeline.summary import summarize

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
    assert '100 % <span class="spare">(1)</span>' in page  # the one selection had guidance 7.5


def test_training_and_results_are_shown_where_they_are(run):
    (run.folder / "training").mkdir()
    steps = [{"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.3}]
    (run.folder / "training" / "metrics.jsonl").write_text("\n".join(map(json.dumps, steps)) + "\n")
    page = write_report(run).read_text()
    assert 'points="0.0,0.0 600.0,160.0"' in page
    assert "0.7000 at the first step, 0.3000 at the last" in page
    assert "Did training help?" not in page


def test_responders_are_shown_by_name_with_their_model(run):
    page = write_report(run).read_text()
    assert f"<b>a</b> ({escape(EVIL)!s})" in page


def test_rows_of_prompts_that_are_not_shown_are_not_made_into_records(run, monkeypatch):
    """A thousand more prompts with answers: the page shows the first, says so, and holds one prompt's rows."""
    more = range(1, 1000)
    rows = {
        "prompts": [Prompt(f"p{n}", n, f"prompt {n}", "s") for n in more],
        "instructions": [Instruction(f"i{n}", f"image-{n}", "what?", "field") for n in more],
        "responses-a": [Response(f"m{n}", f"image-{n}", f"i{n}", "model", f"answer {n}") for n in more],
        "response_scores": [Score(f"m{n}", "judge", 1.0) for n in more],
    }
    for name, records in rows.items():
        write_shard(run.folder / name, 1, 1000, type(records[0]), records, Footer("w"))
    made = Counter()
    real = dataset.from_batch

    def counting(record_type, batch):
        made[record_type] += batch.num_rows
        return real(record_type, batch)

    monkeypatch.setattr(dataset, "from_batch", counting)
    monkeypatch.setattr(report, "quality_of", lambda run: None)  # reads the texts of all, a portion at a time
    page = write_report(run, shown=1).read_text()
    assert "(the first 1 of 1000)" in page
    assert made == {Prompt: 1, Candidate: 2, Score: 5, Selection: 1, Instruction: 1, Response: 4, Pair: 2}
    assert "prompt 30" in write_report(run, shown=31).read_text()


def test_a_report_of_no_prompts_is_refused(run):
    with pytest.raises(PrefmillError, match="0 prompts"):
        write_report(run, shown=0)


@pytest.mark.parametrize("name", ["results.json", "training/metrics.jsonl", "training/manifest.json"])
@pytest.mark.parametrize("content", [b"\xff}", b"{]}", b"[1}", b'{"loss": "low"}', b'{"selection": 1}'])
def test_damaged_files_beside_the_rows_are_named(run, name, content):
    (run.folder / "training").mkdir()
    if b"loss" in content and name != "training/metrics.jsonl":
        content = b""
    if b"selection" in content and name == "training/metrics.jsonl":
        content = b'{"loss": [1]}'
    (run.folder / name).write_bytes(content)
    with pytest.raises(PrefmillError, match=name):
        write_report(run)


@pytest.mark.parametrize("body", [{}, {"n": None}, {"n": 5, "picked_exact": "high"}])
def test_results_without_the_measures_are_named(run, body):
    (run.folder / "results.json").write_text(json.dumps({"selection": body, "dpo": {}, "control": {}}))
    with pytest.raises(PrefmillError, match=r"results.json is damaged"):
        write_report(run)


def test_where_nothing_may_be_written_is_named(run, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.write_bytes", read_only)
    with pytest.raises(PrefmillError, match=r"report.html: Read-only file system"):
        write_report(run)


def test_every_text_on_the_page_is_escaped(run):
    """Whatever a model, a file or a user named: the page has the tags of the template and no others."""
    names = {"prompts": Prompt, "candidates": Candidate, "pairs": Pair}
    for name in names:
        content = {"models": [EVIL], "rejects": {EVIL: 1}, "config": {}, "notices": [EVIL]}
        run.write_manifest(name, {**MANIFEST, **content})
    tags = Tags()
    tags.feed(write_report(run).read_text())
    assert "script" not in tags.seen
    assert not [value for value in tags.values if "alert" in (value or "")]


class Tags(HTMLParser):
    """Every tag and attribute value of a page."""

    def __init__(self):
        super().__init__()
        self.seen, self.values = set(), []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.values += [value for _, value in attrs]


def test_device_time_is_shown_with_its_speed_and_cost(run):
    assert "Device time" in write_report(run).read_text()  # eight seconds that only the manifests know
    DeviceLedger(run.folder).add(
        DeviceTime(stage="candidates", what="loading", seconds=7.25, began=1.0, device="H100 & more"),
        DeviceTime(stage="candidates", what="work", seconds=4.0, began=2.0, units=5, rows=20, device="H100 & more"),
        DeviceTime(stage="candidates", what="idle", seconds=0.5, began=3.0),
    )
    Run(run.folder).write_manifest(
        "candidates", {**MANIFEST, "config": {}, "notices": [], "seconds": 11.75, "price_per_hour": 3600.0}
    )
    summary = summarize(run)
    entry = summary["ledger"]["candidates"]
    assert (entry["loading"], entry["work"], entry["idle"], entry["seconds"]) == (7.25, 4.0, 0.5, 11.75)
    assert entry["speed"] == {"images/s": 5.0}
    assert entry["cost"] == 11.75
    assert summary["device_hours"] == pytest.approx((7 + 11.75) / 3600, abs=1e-6)
    page = write_report(run).read_text()
    assert "5 images/s" in page
    assert "11.7500" in page
    assert "H100 &amp; more" in page
