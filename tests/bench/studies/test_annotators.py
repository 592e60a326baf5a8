"""The study of annotators: agreement with the oracle on drawn images, and a table counted by hand."""

import numpy as np
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.bench.studies.annotators import AnnotatorPanel, annotators_study, oracle_agreement
from prefmill.engine.images import encode_image
from prefmill.micro.world.language import caption
from prefmill.micro.world.render import render_all
from prefmill.micro.world.scenes import Item, Scene
from prefmill.pipeline.records import Candidate, ImagePreference, Prompt
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run

ASKED = Scene((Item(0, "ball", "red"), Item(3, "boat", "blue")), "gray")
SHOWN = {
    "right": ASKED,
    "half": Scene((Item(0, "ball", "red"), Item(3, "boat", "green")), "gray"),
    "wrong": Scene((Item(1, "kite", "green"),), "white"),
}


def stored(folder, rows: dict) -> Run:
    with Run.writing(folder) as run:
        for stage, (kind, records) in rows.items():
            (folder / stage).mkdir()
            write_shard(folder / stage, 0, len(records), kind, records, Footer("w", ()))
            run.write_manifest(stage, {"complete": True})
    return run


def annotated(folder, preferred: list[tuple[str, str]], prompt: str = caption(ASKED)) -> Run:
    pictures = dict(zip(SHOWN, render_all(list(SHOWN.values()), 0), strict=True))
    images = {name: Candidate(name, "p", 32, 32, encode_image(pixels), "m") for name, pixels in pictures.items()}
    preferences = [ImagePreference(f"{a}{b}", "p", prompt, "overall", a, b) for a, b in preferred]
    preferences.append(ImagePreference("by one aspect", "p", prompt, "fidelity", "wrong", "right"))
    return stored(
        folder,
        {
            "prompts": (Prompt, [Prompt("p", 1, prompt, "here")]),
            "candidates-one": (Candidate, [images["right"]]),
            "candidates-other": (Candidate, [images["half"], images["wrong"]]),
            "image_preferences": (ImagePreference, preferences),
        },
    )


@pytest.mark.parametrize(
    ("preferred", "share"),
    [
        ([("right", "half"), ("right", "wrong"), ("half", "wrong")], 1.0),
        ([("right", "half"), ("wrong", "right")], 0.5),  # one right, one wrong, one that nothing was preferred of
        ([("half", "right"), ("wrong", "right"), ("wrong", "half")], 0.0),
    ],
)
def test_pairs_of_all_generators_are_held_against_the_oracle(preferred, share, tmp_path):
    run = annotated(tmp_path / "run", preferred)
    assert oracle_agreement(run, ["candidates-one", "candidates-other"]) == pytest.approx([share])


def test_a_prompt_that_is_no_scene_is_named_by_its_run(tmp_path):
    run = annotated(tmp_path / "run", [], "a photograph of the sea")
    with pytest.raises(PrefmillError, match="run holds prompts that describe no micro scene"):
        oracle_agreement(run, ["candidates-one", "candidates-other"])


def panel(label, annotators, agreement, learnt, flipped) -> AnnotatorPanel:
    measures = {
        "order swap": {name: {"flipped": share} for name, share in zip(annotators, flipped, strict=True)},
        "self-consistency": {name: {"same": 0.75} for name in annotators},
        "place": {f"1 with {name}": {"win_share": 0.5} for name in annotators},
    }
    return AnnotatorPanel(label, annotators, np.array(agreement), np.array(learnt), measures)


def test_the_table_joins_seeds_and_holds_the_others_against_the_first():
    study = annotators_study(
        [
            panel("careful", ("a",), [1.0, 1.0], [1.0, np.nan], [0.1]),
            panel("careful", ("a",), [0.5, 0.5], [0.5, 0.6], [0.3]),
            panel("both", ("a", "b"), [0.5, 0.5], [0.5, np.nan], [0.1, 0.5]),
            panel("both", ("a", "b"), [0.5, 0.5], [0.5, 0.3], [0.3, 0.7]),
        ]
    )
    rows = {(row["preferred by"], row["of"]): row for row in study.rows}
    assert rows["careful", "annotators"]["share"] == 0.75
    assert rows["careful", "reward"]["share"] == pytest.approx(0.7)
    assert (rows["careful", "annotators"]["prompts"], rows["careful", "reward"]["prompts"]) == (4, 3)
    assert rows["both", "reward"]["share"] == pytest.approx(1.3 / 3, abs=1e-4)
    assert (rows["careful", "reward"]["flipped"], rows["both", "reward"]["flipped"]) == (0.2, 0.4)
    assert "both agrees in 0.500 [0.500, 0.500], and a reward trained on that is -0.267" in study.sentence
