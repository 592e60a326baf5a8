"""Other people's rankings and pairs of images become preferences; what cannot is rejected with its reason."""

import json

import pytest
from prefmill.base.errors import PrefmillError


@pytest.fixture
def pictures(tmp_path, picture):
    """Three images of three bytes' worth of difference, in a folder."""
    (tmp_path / "images").mkdir()
    for number in range(3):
        (tmp_path / f"images/{number}.png").write_bytes(picture(number))
    return [f"images/{number}.png" for number in range(3)]


def test_ranks_become_preferences_and_ties_none(tmp_path, pictures, bring, rows, rejects):
    table = [
        {"id": "a", "prompt": "a cat", "generations": pictures, "ranking": [2, 1, 2]},
        {"id": "b", "prompt": "a dog", "generations": pictures[:2], "ranking": [3, 3]},
        {
            "id": "c",
            "prompt": "a cow",
            "generations": [pictures[0], "../outside.png", pictures[1]],
            "ranking": [1, 2, 3],
        },
        {"id": "d", "prompt": "a hen", "generations": pictures[:2], "ranking": [1]},
        {"id": "e", "prompt": "a pig", "generations": pictures[:1] * 2, "ranking": [1, 2]},
    ]
    (tmp_path / "test.json").write_text(json.dumps(table))
    run = bring(tmp_path / "run", image_preferences=tmp_path / "test.json")
    source = {image.id: (image.source, image.prompt_id) for image in rows(run, "candidates")}
    prompts = {prompt.text: prompt.id for prompt in rows(run, "prompts")}
    found = [(one.prompt, source[one.chosen_id], source[one.rejected_id]) for one in rows(run, "image_preferences")]
    cat, cow = prompts["a cat"], prompts["a cow"]
    assert found == [
        ("a cat", (pictures[1], cat), (pictures[0], cat)),
        ("a cat", (pictures[1], cat), (pictures[2], cat)),
        ("a cow", (pictures[0], cow), (pictures[1], cow)),
    ]
    assert {one.aspect for one in rows(run, "image_preferences")} == {"overall"}
    assert set(rejects(run, "image_preferences").values()) == {"tie", "invalid_ranks", "same_image"}
    assert "unsafe_path" in rejects(run, "candidates").values()


def test_the_training_set_of_hpdv2_says_who_is_preferred(tmp_path, pictures, bring, rows):
    row = {"prompt": "a cat", "file_path": pictures[:2], "human_preference": [0, 1]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    run = bring(tmp_path / "run", image_preferences=tmp_path / "train.jsonl")
    (one,) = rows(run, "image_preferences")
    source = {image.id: image.source for image in rows(run, "candidates")}
    assert (source[one.chosen_id], source[one.rejected_id]) == (pictures[1], pictures[0])


def test_the_same_pair_twice_and_a_tie_of_pick_a_pic(tmp_path, picture, bring, rows, rejects):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = [
        {"caption": "a cat", "jpg_0": picture(0), "jpg_1": picture(1), "label_0": label} for label in (0, 0, 0.5, 1)
    ]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "pick.parquet")
    run = bring(tmp_path / "run", image_preferences=tmp_path / "pick.parquet")
    images = {image.id: image.image for image in rows(run, "candidates")}
    found = [(images[one.chosen_id], images[one.rejected_id]) for one in rows(run, "image_preferences")]
    assert found == [(picture(1), picture(0)), (picture(0), picture(1))]  # people disagree; both are kept
    assert sorted(rejects(run, "image_preferences").values()) == ["duplicate", "tie"]
    assert bring(tmp_path / "run", image_preferences=tmp_path / "pick.parquet")
    assert len(rows(run, "image_preferences")) == 2


def test_another_table_and_another_mixture_are_refused(tmp_path, bring):
    (tmp_path / "other.jsonl").write_text('{"prompt": "a cat", "score": 1}\n')
    with pytest.raises(PrefmillError, match=r"no preferences between images: its rows have prompt, score"):
        bring(tmp_path / "run", image_preferences=tmp_path / "other.jsonl")
    with pytest.raises(PrefmillError, match="bring their own images"):
        bring(tmp_path / "run", image_preferences=tmp_path / "other.jsonl", pairs=tmp_path / "other.jsonl")


def test_real_rankings_are_read_and_name_what_is_missing(shared, tmp_path, bring, rows, rejects):
    """The file comes without its images: every row is understood, and every image is missing."""
    table = json.loads((shared / "data/imagereward-test.json").read_text())[:20]
    (tmp_path / "test.json").write_text(json.dumps(table))
    run = bring(tmp_path / "run", image_preferences=tmp_path / "test.json")
    assert [prompt.text for prompt in rows(run, "prompts")] == [row["prompt"] for row in table]
    assert set(rejects(run, "candidates").values()) == {"file_missing"}
    assert set(rejects(run, "image_preferences").values()) == {"no_image"}
    assert len(rejects(run, "image_preferences")) == 20
