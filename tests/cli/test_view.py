"""`prefmill view` as a user starts it: ports, what is missing, and an end without a traceback."""

import json
import socket
import sys

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.bench import viewer as bench
from prefmill.bench.viewer_run import make_run
from prefmill.cli.view import HOST, listen, view_command
from prefmill.pipeline.records import Pair
from prefmill.pipeline.store import Run

pytest.importorskip("uvicorn", reason="the viewer's packages are not installed")


def test_a_port_that_is_taken_is_an_error_and_without_one_the_next_is_tried(monkeypatch):
    with listen(0) as first:
        taken = first.getsockname()[1]
        with pytest.raises(PrefmillError, match=f"port {taken}: in use by another program") as error, listen(taken):
            pass
        assert "--port" in error.value.fix
        monkeypatch.setattr("prefmill.cli.view.PORT", taken)
        with listen(None) as second:
            host, port = second.getsockname()
            assert host == HOST == "127.0.0.1"
            assert port != taken
            with socket.create_connection((HOST, port), timeout=5):
                pass


def test_without_its_packages_the_error_says_how_to_get_them(tmp_path, monkeypatch):
    (tmp_path / "run.yaml").touch()
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "prefmill.pipeline.viewing.server", raising=False)
    with pytest.raises(PrefmillError, match="needs uvicorn") as error:
        view_command(tmp_path)
    assert error.value.fix == "pip install prefmill[view]"
    with pytest.raises(PrefmillError, match="is not a run"):
        view_command(tmp_path / "none")


def test_the_measurement_starts_uses_and_stops_a_real_viewer(tmp_path, monkeypatch, capsys):
    run = make_run(tmp_path / "run", 23, side=24)
    assert len(run.dataset("pairs", Pair)) == 21  # two of 23 were rejected
    assert Run.open(run.folder).dataset("pairs", Pair).reject_counts() == {"too_few_answers": 2}
    result = tmp_path / "viewer.json"
    arguments = ["--prompts", "23", "--folder", str(run.folder), "--to", str(result)]
    monkeypatch.setattr(sys, "argv", ["prefmill bench viewer", *arguments])
    bench.main()  # raises where the viewer answers with an error, or ends with a traceback
    claims = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert claims["memory_within_300_mb"] is (claims["peak_memory_mb"] < 300)
    written = json.loads(result.read_text())
    assert written["claims"] == claims
    assert 0 < written["measured"]["list_seconds"] <= written["measured"]["picture_seconds"]
