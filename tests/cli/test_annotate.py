"""`prefmill annotate` on imported images: from nothing to a table, and again."""

import json

import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.bench.loopback import Sent, serving
from prefmill.cli.annotate import annotate_command
from prefmill.pipeline.exchange.importing import ImportSpec, import_into
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.store import Run


class Rater:
    """Rates the images of a request 1, 2, 3 ... in the order shown."""

    def __init__(self):
        self.asked = 0

    async def __call__(self, received) -> Sent:
        if received.method == "GET":
            return Sent(b'{"data": [{"id": "m"}]}')
        self.asked += 1
        content = json.loads(received.body)["messages"][0]["content"]
        images = [part for part in content if part["type"] == "image_url"]
        text = json.dumps({"images": [{"rationale": "so", "rating": place} for place, _ in enumerate(images, 1)]})
        choice = {"message": {"content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1000, "completion_tokens": 100}
        return Sent(json.dumps({"choices": [choice], "usage": usage}).encode())


@pytest.fixture
def run(tmp_path):
    rows = []
    for number in range(4):
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append({"image": f"{number}.png", "prompt": f"kite {number // 2}", "model": "theirs"})
    (tmp_path / "images.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with Run.writing(tmp_path / "run") as run:
        import_into(run, ImportSpec(images=str(tmp_path / "images.jsonl")), ExecutorConfig(), Progress())
    return tmp_path / "run"


def test_imported_images_are_annotated_once(run, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    rater = Rater()
    with serving(rater) as url:
        one = f"{{name: one, model: m, backend: openai, url: {url}/v1, presentations: 2, server: {{answer_price: 10, "
        annotators = f"annotators=[{one}prompt_price: 1}}}}]"
        annotate_command(run, settings=[annotators], as_json=True)
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert found["stages"]["annotations-one"]["outputs"] == 2 * 2 * 4 * 2
        statistics = found["statistics"]
        # what is shown last has the most: every winner changes with the order, and the means are alike
        assert statistics["order swap"]["one"] == {"pairs": 8, "flipped": 1.0, "changed": 1.0}
        assert statistics["place"]["2 with one"]["win_share"] == 1.0
        assert found["stages"]["image_preferences"]["rejects"] == {"identical": 2}
        assert rater.asked == 16
        # again, without its settings: found complete; a table for people, and what they think
        (run.parent / "pairs.csv").write_text("chosen,rejected\n0.png,1.png\nnobody.png,1.png\n")
        annotate_command(run, humans=str(run.parent / "pairs.csv"))
        printed = capsys.readouterr()
        assert rater.asked == 16
        assert "agreement with people" in printed.out
        assert "aesthetic by one" in printed.out
        assert "1 rows are left out: unknown_image" in printed.err
        with pytest.raises(PrefmillError, match="tie_band was"):
            annotate_command(run, settings=["prefer.tie_band=0.5"])
        annotate_command(run, settings=["prefer.tie_band=0.5"], remake="image_preferences")
        assert rater.asked == 16
    assert not (run / "run.yaml").exists()


def test_a_recipe_that_annotates_nothing_is_refused(run):
    with pytest.raises(PrefmillError, match="tiny annotates no images"):
        annotate_command(run, recipe="tiny")
    with pytest.raises(PrefmillError, match="is not a run folder"):
        annotate_command(run.parent / "none")
