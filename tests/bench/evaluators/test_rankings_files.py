"""Files of rankings and of scores: what they hold, and every way in which they can be wrong."""

import gzip
import io
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.bench.evaluators.rankings import RankedImages
from prefmill.bench.evaluators.rankings_catalogue import BENCHMARKS, benchmark_of
from prefmill.bench.evaluators.rankings_result import evaluate_scores
from prefmill.bench.evaluators.rankings_scores import (
    ItemScores,
    RecordedScores,
    ScoreLog,
    check_fit,
    digest_of,
    usable,
)

ITEM = {"id": "a", "prompt": "a cat", "generations": ["1.png", "2.png"], "ranking": [1, 2]}
PICK = {"caption": "a cat", "label_0": 1, "label_1": 0, "image_0": "1.png", "image_1": "2.png"}
HPD = {"prompt": "a cat", "image_path": ["1.png", "2.png"], "rank": [2, 1]}


def written(tmp_path, content, name="test.json"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.mark.parametrize(("row", "name"), [(ITEM, "imagereward"), (HPD, "hpdv2"), (PICK, "pick-a-pic")])
def test_a_file_says_which_it_is(tmp_path, row, name):
    for content in (json.dumps([row]).encode(), b"\xef\xbb\xbf" + json.dumps([row]).encode()):
        path = written(tmp_path, content)
        benchmark = benchmark_of(path)
        assert benchmark.name == name
        assert benchmark.read(path, None).items[0].prompt == "a cat"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON|no rows"),
        (b"[]", "no rows"),
        (b'[{"id": "a"', "not valid JSON.*line 1"),
        (b"\xff\xfe[]", "UTF-16"),
        ([{"a": 1}], "test.json:1 holds a, which is no ranking"),
        ([3], "test.json:1: not_an_object"),
        ([ITEM, {**ITEM, "ranking": [1]}], "test.json:2: 1 ranks .* for 2 images"),
        ([ITEM, {**ITEM, "ranking": [1, "x"]}], "test.json:2: 'ranking' holds what is no rank"),
        ([ITEM, {**ITEM, "ranking": [1, float("nan")]}], "test.json:2: 'ranking' holds what is no rank"),
        ([ITEM, {**ITEM, "generations": ["1.png", "1.png"]}], "test.json:2: 'generations' names an image twice"),
        ([ITEM, {**ITEM, "generations": ["1.png", None]}], "test.json:2: 'generations' holds what is no file"),
        ([ITEM, {**ITEM, "prompt": None}], "test.json:2: the field 'prompt' is missing"),
        ([ITEM, {**ITEM, "prompt": 5}], "test.json:2: the field 'prompt' is a int"),
        ([ITEM, ITEM], "the id 'a' occurs twice"),
        ([PICK, {**PICK, "label_0": 0.7}], "test.json:2: the labels are 0.7"),
        ([PICK, {**PICK, "label_1": 1}], "test.json:2: the labels are 1 and 1"),
        ([{**PICK, "has_label": False}], "nothing that people decided"),
        (
            [PICK, {**PICK, "label_0": None, "best_image_uid": "z", "image_0_uid": "x", "image_1_uid": "y"}],
            "test.json:2: best_image_uid 'z' is neither",
        ),
    ],
)
def test_files_that_are_no_rankings(tmp_path, content, message):
    path = written(tmp_path, content)
    with pytest.raises(PrefmillError, match=message):
        benchmark_of(path).read(path, None)


def test_unknown_formats_and_folders(tmp_path):
    with pytest.raises(PrefmillError, match="no format 'x'") as caught:
        benchmark_of(tmp_path, "x")
    assert "hpdv2" in caught.value.fix
    with pytest.raises(PrefmillError, match="without image_preferences"):
        benchmark_of(tmp_path)
    with pytest.raises(PrefmillError, match="does not exist"):
        benchmark_of(tmp_path / "nowhere.json")


def png(value):
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def test_pick_a_pic_rows_hold_their_images(tmp_path):
    rows = {
        "caption": ["a cat", "a dog", "a hat"],
        "best_image_uid": ["u1", "tie", "u5"],
        "has_label": [True, True, False],
        "image_0_uid": ["u0", "u2", "u4"],
        "image_1_uid": ["u1", "u3", "u5"],
        "ranking_id": [7, 7, 8],
        "jpg_0": [png(0), png(2), png(4)],
        "jpg_1": [png(1), png(3), png(5)],
    }
    path = tmp_path / "test.parquet"
    pq.write_table(pa.table(rows), path)
    data = benchmark_of(path).read(path, None)
    assert [item.id for item in data.items] == ["7/u0/u1", "7/u2/u3"]
    assert [item.ranks for item in data.items] == [(2, 1), (1, 1)]
    assert data.read_images(data.items[1]) == [png(2), png(3)]
    assert data.read_images(data.items[0]) == [png(0), png(1)]
    assert data.left_out == {"no label": 1}


def test_images_are_read_below_their_folder(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("1.png", "2.png"):
        (tmp_path / "images" / name).write_bytes(png(1))
    path = written(tmp_path, [ITEM, {**ITEM, "id": "b", "generations": ["1.png", "../test.json"]}])
    data = benchmark_of(path).read(path, tmp_path / "images")
    assert data.read_images(data.items[0]) == [png(1), png(1)]
    with pytest.raises(PrefmillError, match=r"item b: .*climbs out"):
        data.read_images(data.items[1])
    with pytest.raises(PrefmillError, match="folder is not given"):
        benchmark_of(path).read(path, None).read_images(data.items[0])


ONE = RankedImages("a", "a cat", ("1.png", "2.png"), (1, 2))
TWO = RankedImages("b", "a dog", ("3.png", "4.png"), (2, 1))


def test_scores_are_written_and_read(tmp_path):
    path = tmp_path / "new" / "scores.jsonl"
    rows = [ItemScores("a", (0.25, 1.5), digest=digest_of(ONE), key="clip@1", truncated=True)]
    with ScoreLog(path) as log:
        log.add("clip", rows)
        log.add("clip", [ItemScores("b", (math.nan, 1.0), problem="no file")])
    with path.open("ab") as file:
        file.write(b'{"scorer": "cl')  # killed while it wrote
    with ScoreLog(path) as log:
        assert log.cut == 14
        log.add("clip", [ItemScores("b", (2.0, 1.0), digest=digest_of(TWO), key="clip@1")])
    recorded = RecordedScores()
    recorded.read(path)
    found = recorded.by_scorer["clip"]
    assert found["a"] == ItemScores("a", (0.25, 1.5), "scores.jsonl:1", digest_of(ONE), "clip@1", True)
    assert found["b"].scores == (2.0, 1.0)
    assert list(recorded.files) == [str(path)]
    check_fit(found, [ONE, TWO], "clip")


def test_what_the_official_script_writes_is_read(tmp_path):
    path = written(tmp_path, [{"id": "a", "prompt": "", "ranking": [1, 2], "rewards": [2.0, 1]}], "test_CLIP.json")
    recorded = RecordedScores()
    recorded.read(path)
    recorded.read(path, "mine")
    assert recorded.by_scorer["test_CLIP"]["a"].scores == recorded.by_scorer["mine"]["a"].scores == (2.0, 1.0)


def test_packed_scores_are_read_and_never_written_to(tmp_path):
    rows = [{"id": "a", "prompt": "", "rewards": [2.0, 1.0]}]
    packed = written(tmp_path, gzip.compress(json.dumps(rows).encode()), "test_CLIP.json.gz")
    recorded = RecordedScores()
    recorded.read(packed)
    assert recorded.by_scorer["test_CLIP"]["a"].scores == (2.0, 1.0)
    for path in (packed, written(tmp_path, rows, "test_CLIP.json")):
        before = path.read_bytes()
        with pytest.raises(PrefmillError, match="no scores can be added"):
            ScoreLog(path)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"id": "a", "scores": [1, 2]}\n{"id": "a", "scores": [1, 2]}', r":2: s has scores for 'a' already, at .*:1"),
        ('{"id": "a", "scores": [1, 2]}\n{"id": "b", "sco', ":2: not valid JSON"),
        ('{"id": "a", "scores": [1, "2"]}', ":1: '2' is no score"),
        ('{"id": "a", "scores": 1}', ":1: no row of scores"),
        ('{"scores": [1]}', ":1: no row of scores"),
        ("", "holds no scores"),
    ],
)
def test_files_that_are_no_scores(tmp_path, lines, message):
    path = written(tmp_path, lines.encode(), "s.jsonl")
    with pytest.raises(PrefmillError, match=message):
        RecordedScores().read(path)


def test_scores_of_other_data():
    with pytest.raises(PrefmillError, match="scored 'z', which the data does not hold"):
        check_fit({"z": ItemScores("z", (1.0, 2.0))}, [ONE], "clip")
    with pytest.raises(PrefmillError, match="3 scores of clip for the 2 images of 'a'"):
        check_fit({"a": ItemScores("a", (1.0, 2.0, 3.0))}, [ONE], "clip")
    with pytest.raises(PrefmillError, match="another prompt or images as 'a'"):
        check_fit({"a": ItemScores("a", (1.0, 2.0), digest=digest_of(TWO))}, [ONE], "clip")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_items_without_finite_scores(value):
    second = {} if value is None else {"b": ItemScores("b", (value, 1.0))}
    scores = {"clip": {"a": ItemScores("a", (1.0, 2.0)), **second}}
    with pytest.raises(PrefmillError, match=r"item 'b' cannot be evaluated.*1 of 2 items") as caught:
        usable([ONE, TWO], scores, partial=False)
    assert "--allow-partial" in caught.value.fix
    kept, left_out = usable([ONE, TWO], scores, partial=True)
    assert (kept, list(left_out)) == ([ONE], ["b"])
    with pytest.raises(PrefmillError, match="no item has scores"):
        usable([TWO], {"clip": second}, partial=True)


def test_an_evaluation_states_what_it_left_out_and_compares_on_the_same_items(tmp_path):
    items = [{**ITEM, "id": name, "prompt": name} for name in "abcd"]
    path = written(tmp_path, items)
    benchmark = BENCHMARKS["imagereward"]
    recorded = RecordedScores()
    recorded.by_scorer["good"] = {name: ItemScores(name, (1.0, 0.0)) for name in "abcd"}
    recorded.by_scorer["poor"] = {name: ItemScores(name, (float(name > "b"), 0.5)) for name in "abc"}
    result = evaluate_scores(benchmark, benchmark.read(path, None), None, recorded, path=path, partial=True)
    assert result["coverage"] == {"items": 3, "of": 4, "left_out": {"d": "poor has no scores for it"}}
    good, poor = (result["scorers"][name]["measures"]["accuracy"] for name in ("good", "poor"))
    assert (good["value"], good["of"]) == (1.0, 3)
    assert poor["value"] == pytest.approx(1 / 3)
    assert poor["low"] < poor["value"] < poor["high"]
    assert result["differences"]["minus"]["poor"]["value"] == pytest.approx(2 / 3)
    assert result["data"]["official"] is False
    assert (result["data"]["pairs"], result["data"]["ties"]) == (3, 0)


def test_a_threshold_is_never_chosen_on_what_it_is_measured_on(tmp_path):
    benchmark = BENCHMARKS["pick-a-pic"]
    path = written(tmp_path, [{**PICK, "id": "a"}])
    data = benchmark.read(path, None)
    recorded = RecordedScores({"clip": {"a": ItemScores("a", (1.0, 2.0))}})
    with pytest.raises(PrefmillError, match="'a' is in the data and in the validation file"):
        evaluate_scores(benchmark, data, benchmark.read(path, None), recorded, path=path)
