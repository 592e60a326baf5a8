"""What an evaluation at a training's end came to is on the page, also where a measure is undefined."""

import json

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.report import write_report
from prefmill.pipeline.store import Run

FOUND = {
    **{"benchmark": "pope", "count": 300, "n": 300, "mended": 20, "broken": 5, "mcnemar_p": 0.00407},
    "measures": {"mean of three: F1": [0.861, 0.8764], "mean of three: precision": [None, 0.97]},
    "change": {"mean of three: F1": [0.0021, 0.0312]},
}


def test_the_page_shows_it(tmp_path):
    folder = tmp_path / "training"
    folder.mkdir()
    (folder / "evaluation.json").write_text(json.dumps(FOUND))
    page = write_report(Run(tmp_path)).read_text()
    for words in ("20 mended", "5 broken", "p 0.0041", "0.861", "0.876", "+0.002 to +0.031", "undefined"):
        assert words in page, words
    (folder / "evaluation.json").write_text("{}")
    with pytest.raises(PrefmillError, match=r"evaluation.json"):
        write_report(Run(tmp_path))
    (folder / "evaluation.json").unlink()
    assert "mended" not in write_report(Run(tmp_path)).read_text()
