"""The report shows what annotators said, once escaped, with radars at the right places and the order of preferences."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from prefmill.engine.images import encode_image
from prefmill.pipeline.records import Annotation, Candidate, ImagePreference, Prompt
from prefmill.pipeline.report import write_report
from prefmill.pipeline.reporting.annotations import annotations_of, order_of, radar
from prefmill.pipeline.reporting.prompt_rows import MOST_IMAGES
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run

MANIFEST = {"complete": True, "inputs": 1, "outputs": 1, "rejects": {}, "models": [], "seconds": 1.0, "cost": None}
EVIL = "<script>alert('x')</script> & \"both\""
ASPECTS = ["prompt_following", "aesthetic", "fidelity", "harmlessness"]


def picture(shade):
    return encode_image(np.full((8, 8, 3), shade, dtype=np.uint8))


def better(number, chosen, rejected, aspect="overall"):
    return ImagePreference(f"x{number}", "p", "a boat", aspect, chosen, rejected)


@pytest.fixture
def run(tmp_path):
    """Two images of two generators: one annotator shows them twice, another abstains from one aspect."""
    first = [
        Annotation(f"c{n}", "p", "one@1", aspect, rating, f"{EVIL} {aspect}", n ^ shown, shown)
        for shown in (0, 1)
        for n, ratings in enumerate(((5, 4, 3, 5), (2, 2, 3, 1)))
        for aspect, rating in zip(ASPECTS, ratings, strict=True)
    ]
    first[0] = Annotation("c0", "p", "one@1", "prompt_following", 3, EVIL, 0, 0)
    rows = {
        "prompts": [Prompt("p", 1, "a boat", "s")],
        "candidates-sd": [Candidate("c0", "p", 8, 8, picture(10), "sd@1", guidance=5.0)],
        "candidates-xl": [Candidate("c1", "p", 8, 8, picture(200), "xl@1", guidance=7.0)],
        "annotations-one": first,
        "annotations-two": [Annotation("c0", "p", "two@1", aspect, None, None, 0) for aspect in ASPECTS],
        "image_preferences": [better(0, "c0", "c1"), better(1, "c1", "c0", "fidelity")],
    }
    for name, records in rows.items():
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name, 0, len(records), type(records[0]), records, Footer("w"))
        measures = {"ratings": {"one": {"mean": 3.25, "share_of_1": 0.5}, EVIL: {"other": None}}}
        content = {"config": {}, "notices": [], "measures": measures if name == "image_preferences" else {}}
        Run(tmp_path).write_manifest(name, {**MANIFEST, **content})
    return Run(tmp_path)


def test_ratings_are_means_over_presentations_and_abstentions_are_none(run):
    found = annotations_of(run, ["p"])
    assert found.aspects == ASPECTS
    assert found.images["c0"].ratings == {
        "one": {"prompt_following": 4.0, "aesthetic": 4.0, "fidelity": 3.0, "harmlessness": 5.0},
        "two": dict.fromkeys(ASPECTS),
    }
    assert [line["annotator"] for line in found.images["c0"].radar["lines"]] == ["one"]  # the other said nothing
    assert len(found.images["c1"].reasons) == 8
    assert annotations_of(run, ["another"]).images == {}


def test_a_radar_has_5_at_the_rim_and_1_in_the_middle():
    shape = radar({"one": {"a": 5, "b": 1, "c": 3, "d": None}}, ["a", "b", "c", "d"], {"one": "red"})
    assert shape["lines"] == [{"annotator": "one", "points": "100.0,38.0 100.0,100.0 100.0,131.0", "colour": "red"}]
    assert shape["rings"][-1] == "100.0,38.0 162.0,100.0 100.0,162.0 38.0,100.0"
    assert [label["text"] for label in shape["labels"]] == ["a", "b", "c", "d"]


def test_ties_stand_together_in_the_order():
    pairs = [better(0, "a", "b"), better(1, "a", "c"), better(2, "b", "d"), better(3, "c", "d"), better(4, "a", "d")]
    assert order_of(pairs) == [["a"], ["b", "c"], ["d"]]


def test_the_page_has_the_images_of_all_generators_with_what_was_said_escaped(run):
    page = write_report(run).read_text()
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.seen
    assert (
        page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;both&#34;") == 17
    )  # 16 reasons, a measure
    assert page.count("data:image/jpeg;base64,") == 2
    assert page.index("sd@1") < page.index("guidance 5") < page.index("xl@1") < page.index("guidance 7")
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "overall 1 &gt; 2" in words
    assert "fidelity 2 &gt; 1" in words
    assert "prompt following 4 - aesthetic 4 -" in words  # the mean of 3 and 5, and an abstention
    assert "8 reasons" in words
    assert "http" not in page  # nothing is fetched


def test_measures_with_different_columns_stand_under_their_own(run):
    page = write_report(run).read_text()
    table = page[page.index("Ratings in image_preferences") :]
    cells = re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", table[: table.index("</table>")])
    assert cells[:4] == ["", "mean", "share of 1", "other"]
    assert cells[4:8] == ["one", "3.25", "0.5", ""]
    assert cells[9:] == ["", "", "unknown"]


def test_a_prompt_with_many_images_shows_some_and_says_how_many_more(run):
    more = [Candidate(f"m{n}", "p", 8, 8, picture(n), "sd@1") for n in range(MOST_IMAGES + 3)]
    write_shard(run.folder / "candidates-sd", 1, 2, Candidate, more, Footer("w"))
    page = write_report(run).read_text()
    assert page.count("data:image/jpeg;base64,") == MOST_IMAGES
    assert "and 5 more images" in page


class Tags(HTMLParser):
    """Every tag of a page."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
