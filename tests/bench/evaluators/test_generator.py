"""The whole evaluation on a tiny generator: the same noise for both, judges, files, and that it continues."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.progress import Progress
from prefmill.bench.evaluators import generator_result
from prefmill.bench.evaluators.generator import BASE, DrawingSettings, TunedAdapter, evaluation_of, find_adapter
from prefmill.bench.evaluators.generator_oracle import OracleStage
from prefmill.bench.evaluators.generator_result import ComparisonSettings, evaluate_generators
from prefmill.bench.evaluators.generator_training import TrainingReward, shared_with_reward, training_of, warnings_of
from prefmill.engine.images import encode_image
from prefmill.engine.settings import EngineSettings
from prefmill.engine.sources import resolve_checkpoint
from prefmill.micro.world.language import caption
from prefmill.micro.world.render import render_all
from prefmill.micro.world.scenes import UNSAFE_KINDS, sample_scenes
from prefmill.pipeline.generate_settings import GenerateConfig
from prefmill.pipeline.prompts import PromptsConfig
from prefmill.pipeline.records import Annotation, Candidate, Reject, Score
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.sources import PromptedImage
from prefmill.pipeline.stages.score import ScoreConfig
from prefmill.pipeline.store import Run

EVIL = "<script>alert('x')</script> a boat"
MODEL = "random:text-to-image"
CLIP = ScoreConfig(scorer="clip", model="random:clip")
DRAWING = DrawingSettings(
    generate=GenerateConfig(model=MODEL, guidance=(1.0, 3.0), steps=2, width=32, height=32, t5_tokens=8),
    engine=EngineSettings(device="cpu", dtype="float32"),
)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """An adapter that was trained on the CLIP which judges."""
    import torch
    from diffusers import SD3Transformer2DModel  # pyright: ignore[reportPrivateImportUsage]
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("training") / "ppo-1"
    transformer = SD3Transformer2DModel.from_pretrained(resolve_checkpoint(MODEL) / "transformer")
    torch.manual_seed(0)
    lora = LoraConfig(r=2, lora_alpha=64, target_modules=["attn.to_q", "attn.add_v_proj"], init_lora_weights=False)
    get_peft_model(transformer, lora).save_pretrained(str(folder / "adapter"))
    config = {"method": "ppo", "reward": {"scorer": "clip", "model": "random:clip", "batch": 3}, "other": 1}
    (folder / "manifest.json").write_text(json.dumps({"config": config, "steps": 3}))
    return find_adapter(str(folder))


class Told(Progress):
    """Remembers what it was told."""

    def __init__(self):
        self.notices, self.worked = [], []

    def step(self, name, steps, note=""):
        self.worked.append(name)

    def notice(self, text):
        self.notices.append(text)


def evaluate(folder, prompts, tuned, told, **comparison):
    evaluation = evaluation_of(PromptsConfig(path=str(prompts)), DRAWING, [tuned], [CLIP], images=2)
    return evaluate_generators(
        folder, evaluation, [tuned], ComparisonSettings(**comparison), told, command="the command"
    )


@pytest.fixture(scope="module")
def evaluated(tuned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "prompts.txt").write_text(f"{EVIL}\na kite\na cup\n")
    told = Told()
    return folder, evaluate(folder / "out", folder / "prompts.txt", tuned, told, harmful_below={"clip": 2.0}), told


def rows(folder, name, kind):
    return list(Run(folder / "out").dataset(name, kind))


def test_both_draw_the_same_prompts_with_the_same_seeds_and_guidance(evaluated, tuned):
    folder, result, _ = evaluated
    base, other = (rows(folder, f"candidates-{name}", Candidate) for name in (BASE, "ppo-1"))
    keys = [[(row.prompt_id, row.guidance, row.seed) for row in own] for own in (base, other)]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == len(base) == 3 * 2 * 2
    assert all(one.image != two.image for one, two in zip(base, other, strict=True))  # the adapter does something
    assert result["inputs"]["generators"]["ppo-1"]["key"].endswith(tuned.weights)
    assert result["inputs"]["prompts"]["prompts"] == 3


def test_the_differences_are_those_of_the_scores(evaluated):
    folder, result, _ = evaluated
    scores = {row.subject_id: row.value for row in rows(folder, "image_scores-clip-base", Score)}
    scores |= {row.subject_id: row.value for row in rows(folder, "image_scores-clip-ppo-1", Score)}
    pairs = zip(*(rows(folder, f"candidates-{name}", Candidate) for name in (BASE, "ppo-1")), strict=True)
    differences = [scores[two.id] - scores[one.id] for one, two in pairs]
    found = result["comparisons"]["ppo-1"]["preference"]["clip"]["all"]
    assert found["difference"]["mean"] == pytest.approx(np.mean(differences))
    assert found["wins"] == sum(value > 0 for value in differences)
    assert set(result["comparisons"]["ppo-1"]["diversity"]) == {"pixels", "clip"}
    assert result["comparisons"]["ppo-1"]["harmful"]["clip below 2"]["all"]["base"] == 1.0


def test_a_judge_that_was_the_reward_is_named_and_warned_of(evaluated):
    _, result, told = evaluated
    assert result["inputs"]["judges"]["clip"]["reward_of"] == ["ppo-1"]
    assert any("every judge of ppo-1 is the reward" in notice for notice in result["notices"])
    assert any("every judge of ppo-1 is the reward" in notice for notice in told.notices)


def test_the_page_and_the_picture_show_changes_and_escape_prompts(evaluated):
    folder, result, _ = evaluated
    page = (folder / "out/evaluation.html").read_text()
    parser = Sources()
    parser.feed(page)
    assert "script" not in parser.tags
    assert "&lt;script&gt;" in page
    found = result["comparisons"]["ppo-1"]["preference"]["clip"]["all"]
    shown = min(found["wins"], 8) + min(found["losses"], 8)
    assert len(parser.images) == 2 * shown > 0
    assert all(source.startswith("data:image/jpeg;base64,") for source in parser.images)
    changes = [float(one) for one in parser.changes]
    gains, losses = changes[: min(found["wins"], 8)], changes[min(found["wins"], 8) :]
    assert gains == sorted(gains, reverse=True)
    assert losses == sorted(losses)
    assert (folder / "out/changes-ppo-1.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "out/evaluation.json").read_text()) == json.loads(json.dumps(result))


def test_a_second_call_draws_nothing_and_hears_annotators(evaluated, tuned):
    """Images that an annotator rated 2 or lower on harmlessness, on average, are harmful."""
    folder, before, _ = evaluated
    run, told = Run(folder / "out"), Told()
    images = rows(folder, "candidates-base", Candidate)
    said = [
        Annotation(row.id, row.prompt_id or "", "judge@1", "harmlessness", rating, None, 0, shown)
        for number, row in enumerate(images)
        for shown, rating in enumerate((1, 3) if number < 3 else (2, 3))
    ]
    others = [
        Annotation(row.id, "", "judge@1", "harmlessness", 5, None, 0)
        for row in rows(folder, "candidates-ppo-1", Candidate)
    ]
    (run.folder / "annotations-judge").mkdir()
    write_shard(run.folder / "annotations-judge", 0, 1, Annotation, [*said, *others], Footer("w"))
    run.write_manifest("annotations-judge", {"config": {}})
    result = evaluate(folder / "out", folder / "prompts.txt", tuned, told)
    assert told.worked == []
    harm = result["comparisons"]["ppo-1"]["harmful"]["annotations-judge"]["all"]
    assert (harm["base"], harm["tuned"]) == (pytest.approx(3 / 12), 0.0)
    assert result["comparisons"]["ppo-1"]["preference"] == before["comparisons"]["ppo-1"]["preference"]


def test_the_oracle_judges_captions_alone():
    scenes = sample_scenes("test", 6, 0)
    pictures = [encode_image(image) for image in render_all(scenes, 0)]
    asked = [
        PromptedImage(str(n), image, caption(scene))
        for n, (image, scene) in enumerate(zip(pictures, scenes, strict=True))
    ]
    stranger = PromptedImage("x", pictures[0], "a photograph of a sunset")
    wrong = PromptedImage("y", pictures[0], caption(scenes[1]))
    rows = {row.subject_id: row for row in OracleStage()([*asked, stranger, wrong])}
    for number, scene in enumerate(scenes):
        row = rows[str(number)]
        assert isinstance(row, Score)
        assert row.value == 1
        assert row.attributes == {"exact": 1.0, "unsafe": float(bool(scene.kinds & UNSAFE_KINDS))}
    reject, other = rows["x"], rows["y"]
    assert isinstance(reject, Reject)
    assert reject.reason == "no_caption"
    assert isinstance(other, Score)
    assert other.value < 1


def test_what_a_training_says_of_its_reward(tmp_path):
    manifest = tmp_path / "manifest.json"
    assert training_of(None) is None
    manifest.write_text('{"config": {"method": "ppo", "reward": {"mixture": {"clip": 1, "blip": 2}}}}')
    found = training_of(manifest)
    assert found is not None
    assert set(found.scorers) == {"clip", "blip"}
    manifest.write_text(
        '{"config": {"method": "flow-dpo", "flow_dpo": {"online": false}, "reward": {"scorer": "clip"}}}'
    )
    assert training_of(manifest) == TrainingReward("flow-dpo", {})  # it learns from preferences, and watches the reward
    manifest.write_text('{"config": {"reward": {"scorer": "nobody"}}}')
    with pytest.raises(PrefmillError, match=r"manifest.json is damaged"):
        training_of(manifest)


def test_a_reward_is_known_by_its_content_too(tmp_path):
    copy = tmp_path / "copy"
    copy.symlink_to(resolve_checkpoint("random:clip"))
    trainings: dict[str, TrainingReward | None] = {"a": TrainingReward("ppo", {"clip": str(copy)}), "b": None}
    from prefmill.engine.checkpoint import checkpoint_key

    key = checkpoint_key(resolve_checkpoint("random:clip"), "clip")
    assert shared_with_reward([CLIP], {"clip": key}, trainings) == {"clip": ["a"]}
    assert shared_with_reward([CLIP], {"clip": "clip@other"}, trainings) == {"clip": []}
    notices = warnings_of({"clip": ["a"]}, trainings, has_oracle=False)
    assert ["every judge of a" in notices[0], "b has no training manifest" in notices[1]] == [True, True]
    assert len(warnings_of({"clip": ["a"]}, trainings, has_oracle=True)) == 1


def test_names_that_clash_and_folders_without_an_adapter_are_refused(tuned, tmp_path):
    assert find_adapter(f"other={tuned.folder}").name == "other"
    with pytest.raises(PrefmillError, match="adapter"):
        find_adapter(str(tmp_path))
    with pytest.raises(PrefmillError, match="name of the base"):
        find_adapter(f"base={tuned.folder}")
    with pytest.raises(PrefmillError, match="two adapters are called ppo-1"):
        evaluation_of(PromptsConfig(path="x"), DRAWING, [tuned, tuned], [CLIP])
    assert isinstance(tuned, TunedAdapter)
    assert generator_result.RESULT == "evaluation.json"


class Sources(HTMLParser):
    """The tags of a page, the sources of its images, and its bold numbers."""

    def __init__(self):
        super().__init__()
        self.tags, self.images, self.changes, self.bold = set(), [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.bold = tag == "b"
        if tag == "img":
            self.images.append(dict(attrs)["src"])

    def handle_data(self, data):
        if self.bold and data[:1] in "+-":
            self.changes.append(data)
        self.bold = False
