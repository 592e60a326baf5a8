"""Verdicts are lines that are only ever added; the last one on a pair counts."""

import json
from typing import Literal

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.viewing.keys import key_of
from prefmill.pipeline.viewing.verdicts import PairVerdict, VerdictFile, verdict_of


def test_lines_are_added_and_the_last_one_counts(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    told: tuple[tuple[str, Literal["agree", "disagree"] | None], ...]
    told = (("p", "agree"), ("q", "disagree"), ("p", "disagree"), ("q", None))
    with VerdictFile.writing(path) as verdicts:
        for pair, verdict in told:
            verdicts.add(PairVerdict(pair_id=pair, verdict=verdict, chosen_id="1", rejected_id="2"))
        with pytest.raises(PrefmillError, match="in use"), VerdictFile.writing(path):
            pass
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["pair_id"], line["verdict"]) for line in lines] == list(told)
    assert all(line["time"].endswith("+00:00") for line in lines)
    again = VerdictFile(path)
    assert (again.of("p"), again.of("q")) == ("disagree", None)
    assert again.by_key() == {int(key_of("p")): "disagree"}
    assert again.agreement()["share"] == 0.0
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_that_is_cut_and_one_that_is_none_stay_and_are_named(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    good = PairVerdict(pair_id="p", verdict="agree").model_dump_json()
    path.write_text(f'{good}\n{{"pair_id": 3}}\n\n{{"pair_id": "q", "ver')
    with VerdictFile.writing(path) as verdicts:
        assert verdicts.damaged == [2, 4]
        verdicts.add(PairVerdict(pair_id="r", verdict="agree"))
    assert path.read_text().startswith(f'{good}\n{{"pair_id": 3}}\n\n{{"pair_id": "q", "ver\n{{')
    assert (VerdictFile(path).of("p"), VerdictFile(path).of("r")) == ("agree", "agree")


def test_what_is_no_verdict_and_a_file_that_cannot_be_written_are_errors(tmp_path):
    pair = {"id": "p", "chosen_id": "1", "rejected_id": "2", "margin": 0.5}
    told = verdict_of(pair, "agree", {"1": "a", "2": "b"})
    assert (told.chosen_responder, told.rejected_responder, told.margin) == ("a", "b", 0.5)
    with pytest.raises(PrefmillError, match='"maybe"'):
        verdict_of(pair, "maybe", {})
    with pytest.raises(PrefmillError, match="cannot write"), VerdictFile.writing(tmp_path / "none" / "v.jsonl"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(PrefmillError, match="cannot write"), VerdictFile.writing(tmp_path / "folder"):
        pass
