"""Annotating in a run: images of several folders, what cannot be shown, several annotators, and servers that fail."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.bench.loopback import Sent, serving
from prefmill.engine.images import encode_image
from prefmill.engine.responders.image_ratings import ASPECTS
from prefmill.pipeline.records import Annotation, Candidate, ImagePreference, Prompt
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run
from prefmill.pipeline.summary import stage_names, summarize
from prefmill.pipeline.synthesis import synthesize, tasks_of
from prefmill.pipeline.vision_prefer import VisionPreferLoop
from prefmill.recipes.settings import validated

ONLY = ("annotations", "image_preferences")
COUNTS = {"complete": True, "inputs": 3, "outputs": 3, "rejects": {}, "models": [], "notices": []}
COUNTS |= {"seconds": 0.0, "cost": None, "fingerprint": "f"}


def picture(shade):
    return encode_image(np.full((8, 8, 3), shade, np.uint8))


def candidate(identity, prompt, shade):
    return Candidate(identity, prompt, 8, 8, b"broken" if shade is None else picture(shade), "m")


FOLDERS = {
    "prompts": (Prompt, [Prompt(f"p{n}", n, f"kite {n}", f"line {n}") for n in range(1, 4)]),
    "candidates": (Candidate, [candidate("i1", "p1", 40), candidate("alone", None, 40)]),
    "candidates-x": (Candidate, [candidate("x1", "p1", 160), candidate("x2", "p2", 40)]),
    "candidates-y": (Candidate, [candidate("y1", "p1", None), candidate("y2", "p2", 40)]),
}


@pytest.fixture
def run(tmp_path):
    """Three prompts: two with images of several generators, one without any."""
    with Run.writing(tmp_path / "run") as run:
        for folder, (kind, rows) in FOLDERS.items():
            (run.folder / folder).mkdir()
            write_shard(run.folder / folder, 0, len(rows), kind, rows, Footer(""))
            config = {"imported": {}} if folder == "candidates" else {}
            run.write_manifest(folder, {"config": config, **COUNTS})
        yield run


def loop(*annotators, **prefer):
    values = [{"backend": "scripted", "model": "m", **one} for one in annotators]
    return validated(VisionPreferLoop, {"annotators": values, "prefer": prefer})


def said(images):
    """A level for the shade of each image: 40 is 1, 160 is 4."""
    return json.dumps(
        {"images": [{"rationale": "its shade", "rating": one.getpixel((0, 0))[0] // 40} for one in images]}
    )


def rows_of(run, name):
    return list(run.dataset(f"annotations-{name}", Annotation))


def test_images_of_all_generators_are_rated_and_what_cannot_be_shown_is_told(run, scripted):
    scripted.say(lambda request: said(request.images))
    config = loop(
        {"name": "one", "presentations": 2}, {"name": "two", "aspects": ["fidelity"]}, by=["overall", "fidelity"]
    )
    synthesize(run, config, Progress(), only=ONLY)
    rows = rows_of(run, "one")
    assert Counter((row.prompt_id, row.subject_id) for row in rows) == {
        **{("p1", "i1"): 8, ("p1", "x1"): 8, ("p2", "x2"): 8, ("p2", "y2"): 8},
    }
    rejects = {one.subject_id: one.reason for one in run.dataset("annotations-one", Annotation).rejects()}
    assert rejects == {"y1": "image_unreadable", "alone": "no_prompt", "p3": "no_image"}
    preferred = list(run.dataset("image_preferences", ImagePreference))
    found = [(row.prompt_id, row.aspect, row.chosen_id, row.rejected_id, row.margin) for row in preferred]
    assert found == [("p1", "overall", "x1", "i1", 3.0), ("p1", "fidelity", "x1", "i1", 3.0)]
    reasons = {one.subject_id: one.reason for one in run.dataset("image_preferences", ImagePreference).rejects()}
    assert reasons == {"p2": "identical", "p3": "unrated"}
    manifest = run.manifest("annotations-one")
    assert manifest["usage"]["requests"] == 2 * 4 * 2
    measures = run.manifest("image_preferences")["measures"]
    assert measures["replies"]["one"]["asked"] == measures["replies"]["one"]["given"] == 32
    assert measures["agreement"]["one and two on fidelity"]["kendall_tau"] == 1.0
    assert measures["preferences"]["fidelity"]["ties"] == 1
    # 0.5 for each of 16 + 2 requests, one preference overall and two in all
    assert measures["cost"]["1,000 preferences"] == {"overall": 9000.0, "all": 4500.0}
    assert stage_names(run)[-3:] == ["annotations-one", "annotations-two", "image_preferences"]
    assert summarize(run)["stages"]["image_preferences"]["measures"] == measures


def test_replies_that_are_lost_are_counted_by_kind(run, scripted):
    spoilt = {"AESTHETICS": "I'm sorry, no.", "HARMLESSNESS": "lovely"}

    def script(request):
        word = re.findall(r"Rate ([A-Z ]+) alone", request.text)[0]
        text = said(request.images)
        return spoilt.get(word) or (text.replace(": 1}", ": null}") if word == "FIDELITY" else text)

    scripted.say(script)
    synthesize(run, loop({"name": "one"}), Progress(), only=ONLY)
    numbers = run.manifest("image_preferences")["measures"]["replies"]["one"]
    counts = {name: numbers[name] for name in ("asked", "given", "abstained", "unparsed", "refused", "failed")}
    assert counts == {"asked": 16, "given": 5, "abstained": 3, "unparsed": 4, "refused": 4, "failed": 0}
    assert (numbers["abstained_share"], numbers["unparsed_share"]) == (3 / 16, 0.25)
    assert Counter(row.rating for row in rows_of(run, "one")) == {None: 3, 4: 2, 1: 3}


def test_ratings_are_kept_and_another_rubric_is_another_annotator(run, scripted):
    scripted.say(lambda request: said(request.images))
    synthesize(run, loop({"name": "one"}), Progress(), only=ONLY)
    asked = scripted.last
    synthesize(run, loop({"name": "one"}), Progress(), only=ONLY)
    assert scripted.last is asked
    with pytest.raises(PrefmillError, match="another configuration"):
        synthesize(run, loop({"name": "one", "rubrics": {"fidelity": "how sharp ?"}}), Progress(), only=ONLY)
    with pytest.raises(PrefmillError, match=r"tie_band was 0\.0, now 1\.0"):
        synthesize(run, loop({"name": "one"}, tie_band=1.0), Progress(), only=ONLY)
    [task, _] = tasks_of(run, loop({"name": "one"}), only=ONLY)
    assert task.config["generators"] == ["candidates", "x", "y"]
    assert re.search(r"scripted-1 rubrics-[0-9a-f]{16}", task.config["runtime"])


def test_a_weight_of_nobody_and_a_loop_without_annotators_are_refused(run):
    with pytest.raises(PrefmillError, match=r"weighs two, and annotators are one"):
        loop({"name": "one"}, annotators={"two": 1.0})
    with pytest.raises(PrefmillError, match="no annotators"):
        tasks_of(run, loop(), only=ONLY)


class Flaky:
    """Rates by shade; every request fails at first, each in another way, and the account is empty after a while."""

    FAULTS = (
        Sent(b"oops", 500),
        Sent(b"", reset=True),
        Sent(b'{"choices": [', 200),
        Sent(b'{"choices": []}' * 10, cut=20),
        Sent(b'{"error": {"message": "slow down"}}', 429, {"retry-after": "0.01"}),
    )

    def __init__(self):
        self.calls, self.answered, self.lasts = Counter(), Counter(), 10**9

    async def __call__(self, received) -> Sent:
        if received.method == "GET":
            return Sent(b'{"data": []}')
        body = json.loads(received.body)
        content = body["messages"][0]["content"]
        images = sum(part["type"] == "image_url" for part in content)
        key = f"{body['seed']} {content[-1]['text']}"
        if self.calls[key] == 0 and len(self.calls) <= 2 * len(self.FAULTS):
            fault = self.FAULTS[len(self.calls) % len(self.FAULTS)]
            self.calls[key] += 1
            return fault
        if sum(self.answered.values()) >= self.lasts:
            return Sent(b'{"error": {"message": "no", "code": "insufficient_quota"}}', 429)
        self.calls[key] += 1
        self.answered[key] += 1
        # five ratings for four, once: asked for again with another seed
        wrong = "FIDELITY" in key and "An earlier reply" not in key
        rows = [{"rationale": "so", "rating": 1 + (place + len(key)) % 5} for place in range(images + wrong)]
        choice = {"message": {"content": json.dumps({"images": rows})}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 20}
        return Sent(json.dumps({"choices": [choice], "usage": usage}).encode())


def test_a_flaky_server_loses_nothing_and_is_asked_nothing_twice(run, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    flaky = Flaky()
    with serving(flaky) as url:
        server = {"concurrency": 2, "prompt_price": 1.0, "answer_price": 5.0}
        served = {"backend": "openai", "url": f"{url}/v1", "server": server, "batch_size": 1}
        config = loop({"name": "one", "presentations": 2, **served})
        flaky.lasts = 11  # of 20: in the second prompt
        with pytest.raises(PrefmillError, match=r"money|quota|account"):
            synthesize(run, config, Progress(), only=ONLY)
        assert 0 < len(rows_of(run, "one")) < 32
        flaky.lasts = 10**9
        synthesize(run, config, Progress(), only=ONLY)
    rows = rows_of(run, "one")
    told = Counter((row.subject_id, row.aspect, row.presentation) for row in rows)
    images = ("i1", "x1", "x2", "y2")
    assert told == {(image, aspect, time): 1 for image in images for aspect in ASPECTS for time in (0, 1)}
    assert set(flaky.answered.values()) == {1}
    assert sum(flaky.answered.values()) == 16 + 4
    manifest = run.manifest("annotations-one")
    assert (manifest["usage"]["requests"], manifest["usage"]["failures"]) == (20, 0)
    assert manifest["cost"] == pytest.approx(20 * (100 * 1 + 20 * 5) / 1e6)
    assert "one" in run.manifest("image_preferences")["measures"]["order swap"]
