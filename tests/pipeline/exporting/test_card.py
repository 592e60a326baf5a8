"""The data card: counts, licences, and that nothing in it acts; and the upload of an export."""

import json
from types import SimpleNamespace
from typing import Any, cast

import datasets
import pytest
import yaml
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.exporting.card import card_writer, shown
from prefmill.pipeline.exporting.export import export
from prefmill.pipeline.exporting.push import plan_push, push


@pytest.fixture(scope="module")
def carded(told, tmp_path_factory):
    """Two exports with their cards: the scores, a part held out, and the pairs."""
    folder = tmp_path_factory.mktemp("carded")
    export(told, folder / "scores", "scores", eval_share=0.3, finish=card_writer("cc-by-4.0"))
    export(told, folder / "pairs", "pds-dpo", finish=card_writer())
    return folder


def test_the_score_tables_load_by_the_card_as_two_tables_with_images(carded, tmp_path):
    images: Any = datasets.load_dataset(str(carded / "scores"), "images", cache_dir=str(tmp_path))
    answers: Any = datasets.load_dataset(str(carded / "scores"), "answers", cache_dir=str(tmp_path))
    assert set(images) == set(answers) == {"train", "test"}
    assert images["train"].features["image"] == datasets.Image()
    rows = {row["image_id"]: row for split in images.values() for row in split}
    assert {key: row["image_score"] for key, row in rows.items()} == {f"i{n}": n / 4 for n in range(12)}
    assert isinstance(rows["i0"]["image"], Image.Image)
    assert rows["i0"]["selected"] is True
    said = {row["answer_id"]: row for split in answers.values() for row in split}
    assert len(said) == 24
    assert (said["a3"]["score"], said["a3"]["fate"], said["b3"]["fate"]) == (3.5, "chosen", "rejected")
    assert said["b3"]["instruction"] == "What is 3?"


def test_the_card_has_counts_licence_plots_and_lineage(carded):
    text = (carded / "pairs/README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "pds-dpo.json"}]}]
    assert "license" not in header
    assert "No licence was stated" in text
    assert "12 pairs about 12 images" in text
    assert "| a | 12, 0 |" in text
    assert "[owner/model](https://huggingface.co/owner/model)" in text
    for picture in (carded / "pairs/plots").iterdir():
        assert f"](plots/{picture.name})" in text
        assert Image.open(picture).size[0] > 400
    scores = (carded / "scores/README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(scores.split("---\n")[1])["license"] == "cc-by-4.0"
    stages = json.loads((carded / "pairs/prefmill.json").read_text())["stages"]
    assert stages["pairs"]["models"] == ["m@1"]
    assert stages["candidates"]["config"]["model"] == "m"  # of a path on this machine only its name


def test_nothing_in_a_card_acts(carded):
    for path in carded.glob("*/README.md"):
        text = path.read_text(encoding="utf-8")
        assert "<b>" not in text
        assert "<script" not in text
        assert "\x1b" not in text
        assert "/home" not in text
    assert shown("a|b <i>\x1b[1m*x* [y](http://z)") == r"a\|b &lt;i&gt;\\u001b\[1m\*x\* \[y\](http://z)"


def test_a_push_is_planned_from_the_folder_alone(carded, tmp_path):
    plan = plan_push(carded / "scores", "me/scores")
    assert set(plan.files) == {
        path.relative_to(carded / "scores").as_posix() for path in (carded / "scores").rglob("*") if path.is_file()
    }
    assert plan.bytes == sum(path.stat().st_size for path in (carded / "scores").rglob("*") if path.is_file())
    assert (plan.license, plan.private) == ("cc-by-4.0", True)
    for name in ("scores", "a/b/c", "../x", "me/"):
        with pytest.raises(PrefmillError, match="no repository"):
            plan_push(carded / "scores", name)
    with pytest.raises(PrefmillError, match="no data card"):
        plan_push(tmp_path, "me/x")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    for name, kind in ((".env", "hidden"), ("link", "a link")):
        (tmp_path / name).symlink_to("/etc/passwd") if kind == "a link" else (tmp_path / name).touch()
        with pytest.raises(PrefmillError, match=kind):
            plan_push(tmp_path, "me/x")
        (tmp_path / name).unlink()


def test_a_push_needs_a_token_of_the_environment_and_sends_the_folder(carded, monkeypatch):
    plan, calls = plan_push(carded / "pairs", "me/pairs"), []
    api: Any = SimpleNamespace(
        create_repo=lambda name, **options: calls.append((name, options)),
        upload_folder=lambda **options: calls.append(options),
    )
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(PrefmillError, match="HF_TOKEN is not set"):
        push(plan, api)
    assert not calls
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert push(plan, api) == "https://huggingface.co/datasets/me/pairs"
    assert calls[0] == ("me/pairs", {"repo_type": "dataset", "private": True, "exist_ok": True})
    assert (calls[1]["repo_id"], calls[1]["folder_path"]) == ("me/pairs", carded / "pairs")

    def refused(name, **options):
        raise OSError("401 for hf_secret")

    with pytest.raises(PrefmillError, match=r"401 for \.\.\.") as caught:
        push(plan, cast(Any, SimpleNamespace(create_repo=refused)))
    assert "hf_secret" not in str(caught.value)
