"""Agreement with people, against values computed by hand."""

from collections import Counter

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.annotating.humans import HumanPairs, human_agreement, read_human_pairs
from prefmill.pipeline.annotating.ratings import RatedPrompt
from prefmill.pipeline.annotating.settings import PreferConfig
from prefmill.pipeline.records import Annotation, Candidate, Prompt
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.stages.generate import GENERATORS
from prefmill.pipeline.store import Run


def test_how_often_ratings_prefer_what_people_prefer():
    levels = {"fidelity": {"a": 5, "b": 3, "c": 3, "d": 1}, "aesthetic": {"a": 1, "b": 2, "c": 2, "d": 2}}
    rows = [
        Annotation(image, "p", "x", aspect, level, "so", 0)
        for aspect, images in levels.items()
        for image, level in images.items()
    ]
    rated = RatedPrompt(Prompt("p", 1, "t", "s"), tuple(rows))
    pairs = {("a", "b"): "overall", ("c", "b"): "overall", ("d", "c"): "overall", ("d", "a"): "aesthetic"}
    found = human_agreement([rated], HumanPairs(pairs, Counter()), PreferConfig(by=("fidelity", "aesthetic")))
    # fidelity: a > b is right, c = b a tie, d > c wrong; aesthetic: a > b is wrong, two ties, d > a right
    third = round(1 / 3, 6)
    assert found["fidelity"] == {"pairs": 3, "tie_share": third, "agreement": 0.5, "agreement_without_ties": 0.5}
    assert found["aesthetic"] == {"pairs": 4, "tie_share": 0.5, "agreement": 0.5, "agreement_without_ties": 0.5}


def test_pairs_are_read_and_what_cannot_be_used_is_counted(tmp_path):
    run = Run(tmp_path / "run")
    for folder, name in (("candidates", "a"), ("candidates-x", "b")):
        (run.folder / folder).mkdir(parents=True)
        rows = [Candidate(f"{name}{n}", "p", 8, 8, b"", "m", source=f"{name}{n}.png") for n in range(2)]
        write_shard(run.folder / folder, 0, 2, Candidate, rows, Footer(""))
        run.write_manifest(folder, {})
    table = tmp_path / "pairs.csv"
    table.write_text("chosen,rejected,aspect\na0,b1.png,\nb0,a1,fidelity\nb1,a0,\na0,c,\na0,a0,\n")
    read = read_human_pairs(str(table), run, GENERATORS)
    assert read.pairs == {("a0", "b1"): "overall", ("b0", "a1"): "fidelity"}
    assert read.unused == {"repeated": 1, "unknown_image": 2}
    table.write_text("one,two\na0,b0\n")
    with pytest.raises(PrefmillError, match="no pair of images of this run \\(1 unreadable\\)"):
        read_human_pairs(str(table), run, GENERATORS)
