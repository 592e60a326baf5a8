"""The paper's tables in small: what is missing is named with its source; answers, reports and cells of two rows."""

import json

import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.bench.evaluators.halbench.coco import FILES
from prefmill.bench.evaluators.paper.needs import missing_needs
from prefmill.bench.evaluators.paper.published import TABLES
from prefmill.bench.evaluators.paper.rows import report_row
from prefmill.bench.evaluators.paper.settings import PaperRow, PaperSettings, rows_of, tables_of
from prefmill.bench.evaluators.paper.tables import filled
from prefmill.bench.loopback import serving
from prefmill.cli import main
from prefmill.engine.responders.settings import ModelChoice, ServerSettings
from typer.testing import CliRunner

from ...engine.responders.server.fake_chat import FakeChat, completion, text_of


@pytest.fixture
def data(tmp_path):
    """Everything that tables 2 and 3 read, made up: 3 POPE files of 2 questions, 5 of AMBER, 96 and 300 items."""
    root = tmp_path / "evals"
    for name in ("pope", "amber/image", "coco/val2014", "coco/annotations", "objhal", "mmhal/images"):
        (root / name).mkdir(parents=True)
    for place in ("coco/val2014/a.jpg", "amber/image/A.jpg", "mmhal/images/m.jpg"):
        Image.new("RGB", (8, 8)).save(root / place)
    for category in ("random", "popular", "adversarial"):
        rows = [
            {"question_id": number, "image": "a.jpg", "text": f"Is there a {thing}?", "label": label}
            for number, (thing, label) in enumerate([("cat", "yes"), ("dog", "no")], 1)
        ]
        (root / f"pope/coco_pope_{category}.json").write_text("\n".join(map(json.dumps, rows)))
    amber = [
        {"id": 1005, "type": "discriminative-hallucination", "truth": "no"},
        {"id": 1006, "type": "discriminative-attribute-state", "truth": "yes"},
        {"id": 1007, "type": "discriminative-attribute-number", "truth": "yes"},
        {"id": 1008, "type": "discriminative-attribute-action", "truth": "no"},
        {"id": 1009, "type": "discriminative-relation", "truth": "yes"},
    ]
    (root / "amber/annotations.json").write_text(json.dumps(amber))
    (root / "amber/relation.json").write_text(json.dumps({"cat": []}))
    (root / "amber/safe_words.txt").write_text("animal\n")
    asked = [{"id": one["id"], "image": "A.jpg", "query": f"Is it {one['truth']}?"} for one in amber]
    (root / "amber/query_all.json").write_text(json.dumps(asked))
    template = {"image_src": "https://a/m.jpg", "image_content": ["Cat"], "question": "What?", "gt_answer": "A cat."}
    items = [{**template, "question_type": f"t{number % 8}", "question": f"What? {number}"} for number in range(96)]
    (root / "mmhal/response_template.json").write_text(json.dumps(items))
    (root / "objhal/synonyms_refine.txt").write_text("dog, puppy\ncat, kitten\n")
    rows = [{"image_id": number, "question": f"Describe {number}.", "image": "a.jpg"} for number in range(1, 301)]
    (root / "objhal/questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in FILES:
        content = {"images": [{"id": number} for number in range(1, 301)], "annotations": []}
        if "instances" in name:
            content["categories"] = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
            content["annotations"] = [{"image_id": number, "category_id": 1} for number in range(1, 301)]
        (root / "coco/annotations" / name).write_text(json.dumps(content))
    return root


def answered(body, number):
    """A model that invents a cat in every description, sees dogs everywhere, and a judge that gives 5."""
    text = text_of(body)
    if text.startswith("Describe"):
        return completion("A dog and a kitten.")
    if "Rating:" in text:
        return completion("Fine. Rating: 5")
    return completion("Yes")


def settings_of(url, data, to, **changes):
    server = ServerSettings(timeout=5.0, concurrency=8)
    choice = ModelChoice(model="any", backend="openai", url=f"{url}/v1", server=server)
    values = {"rows": rows_of([]), "tables": tables_of("2,3"), "judge": choice, "light": True, **changes}
    return PaperSettings(model=choice, data=data, to=to, **values)


def test_tables_two_and_three(data, tmp_path):
    fake = FakeChat(answered)
    with serving(fake) as url:
        settings = settings_of(url, data, tmp_path / "out")
        assert missing_needs(settings) == []
        reports = report_row(PaperRow("base"), settings, "x", Progress())
        asked = len(fake.bodies)
        again = report_row(PaperRow("base"), settings, "x", Progress())
    # POPE's three files ask the same, so do questions of AMBER here
    assert len(fake.bodies) == asked == 2 + 2 + 2 * 96 + 300
    assert {name: one["measures"] for name, one in again.items()} == {
        name: one["measures"] for name, one in reports.items()
    }
    two, three = (filled(table, {"base": reports}) for table in settings.tables)
    cells = dict(zip(two.columns, two.lines[0][1], strict=True))
    assert cells["MMHal score"].startswith("5.00")
    assert cells["MMHal hallucination rate"].startswith("0.0")
    assert cells["AMBER accuracy"].startswith("60.0")
    assert cells["POPE accuracy"].startswith("50.00")
    assert cells["POPE F1"].startswith("66.67")
    assert two.lines[1] == ("base, published", ("2.36", "51.0", "72.3", "75.6", "86.10", ""))
    cells = dict(zip(three.columns, three.lines[0][1], strict=True))
    # every answer names a dog, which is there, and a kitten, which is not
    assert cells["CHAIRs"].startswith("100.0")
    assert cells["CHAIRi"].startswith("50.0")
    assert cells["POPE recall"].startswith("100.00")
    assert cells["POPE yes"].startswith("100.00")
    assert any("9K" in note for note in three.notes)
    assert "| base | 5.00" in two.markdown()
    other = filled(settings.tables[0], {"base": reports}, published=False)
    assert [label for label, _ in other.lines] == ["base"]
    assert "published numbers are of llava-1.5-7b, which the base here is not" in other.notes
    assert sorted(path.name for path in (tmp_path / "out" / "base").glob("*.json")) == [
        f"{name}.json" for name in ("amber", "mmhal", "objhal", "pope")
    ]


def test_everything_that_is_missing_is_named_at_once(data, tmp_path, monkeypatch):
    monkeypatch.delenv("PREFMILL_LMMS_PYTHON", raising=False)
    (data / "pope/coco_pope_popular.json").unlink()
    (data / "coco/annotations" / FILES[0]).unlink()
    (data / "amber/image/A.jpg").unlink()
    (data / "mmhal/response_template.json").write_text("{")
    with serving(FakeChat()) as url:
        settings = settings_of(
            url, data, tmp_path, judge=None, tables=TABLES, rows=rows_of([f"9K={tmp_path / 'none'}"])
        )
        found = {(one.benchmark, one.what): one.source for one in missing_needs(settings)}
    told = "\n".join(f"{benchmark}: {what} <- {source}" for (benchmark, what), source in found.items())
    for words in (
        "coco_pope_popular.json <- output/coco of https://github.com/RUCAIBox/POPE",
        f"{FILES[0]} <- http://images.cocodataset.org/annotations",
        "amber: 5 images of 5 questions, as 'A.jpg' in image",
        "mmhal: response_template.json:1: not valid JSON",
        "mmhal: no judge for MMHal-Bench is given",
        "lmms: lmms-eval runs in an interpreter of its own",
        "row 9K: ",
        "is no finished training",
    ):
        assert words in told, told


def test_the_command_lists_what_is_missing_and_asks_nothing(tmp_path):
    command = ["eval", "paper", "--to", str(tmp_path / "out"), "--data", str(tmp_path), "--tables", "3"]
    command += ["--model", "random:policy", "--light"]
    plan = CliRunner().invoke(main.app, [*command, "--plan"])
    assert plan.exit_code == 0, plan.output
    assert "rows: base; benchmarks: objhal, pope; missing: 10" in plan.stdout
    assert "synonyms_refine.txt" in plan.stderr
    refused = CliRunner().invoke(main.app, command)
    assert isinstance(refused.exception, PrefmillError)
    assert "10 things are missing" in refused.exception.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["9K"], "is not NAME=FOLDER"),
        (["a=b", "a=c"], "'a' twice"),
        (["base=x"], "'base' twice"),
        (["a/b=c"], "is not"),
    ],
)
def test_rows_that_are_none(rows, message):
    with pytest.raises(PrefmillError, match=message):
        rows_of(rows)
    with pytest.raises(PrefmillError, match="no table '4'"):
        tables_of("1,4")


def test_what_is_printed_belongs_to_columns():
    for table in TABLES:
        titles = {one.title for one in table.columns}
        assert all(set(row) <= titles for row in table.printed.values())
