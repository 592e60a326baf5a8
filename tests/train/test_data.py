"""What is trained on: the right pairs in their order, read one image at a time, tokenised as the model reads them."""

import json
import math
import shutil
from dataclasses import replace

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.records import Candidate, Pair, Score, content_id
from prefmill.pipeline.shards import Footer, write_shard
from prefmill.pipeline.store import Run
from prefmill.train import data
from prefmill.train.collate import PairCollator, split_trainable
from prefmill.train.data import RunImages, hold_out, load_pairs, pairs_digest, preference_dataset
from transformers import AutoProcessor

# The template that llava-hf/llava-1.5-7b-hf carries: no begin token, no end token, a space at the end of a turn.
PUBLISHED_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% if message['role'] != 'assistant' %}{% for content in message['content'] | selectattr('type', 'equalto', "
    "'text') %}{{ content['text'] + ' '}}{% endfor %}{% else %}{% for content in message['content'] | "
    "selectattr('type', 'equalto', 'text') %}{% generation %}{{ content['text'] + ' '}}{% endgeneration %}"
    "{% endfor %}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


@pytest.fixture
def processor(model_folder):
    return AutoProcessor.from_pretrained(model_folder)


@pytest.fixture
def pairs(run_folder):
    return load_pairs(run_folder)


def test_dataset_keeps_order_and_reads_images_on_access(run_folder, pairs, monkeypatch):
    decoded = []

    def counted(content):
        decoded.append(content)
        return original(content)

    original = data.decode_image
    monkeypatch.setattr(data, "decode_image", counted)
    dataset = preference_dataset(pairs, RunImages(run_folder))
    assert decoded == []
    row = dataset[1]
    assert len(decoded) == 1
    assert row["images"][0].size == (70, 56)
    assert row["prompt"] == [{"role": "user", "content": "Which color is the car?"}]
    assert row["chosen"] == [{"role": "assistant", "content": "The car is blue."}]
    assert dataset.with_format(None)["id"][:] == [pair.id for pair in pairs]
    assert decoded[0] == Run.open(run_folder).dataset("candidates", Candidate).read(1, 2)[0].image


def test_digest_depends_on_every_text_and_the_order(pairs):
    digests = {pairs_digest(pairs), pairs_digest(pairs[::-1]), pairs_digest(pairs[:-1])}
    for field in ("id", "image_id", "instruction", "chosen", "rejected"):
        digests.add(pairs_digest([replace(pairs[0], **{field: "x"}), *pairs[1:]]))
    assert len(digests) == 8


def judged_run(folder, run_folder, pairs, scores):
    """A run with these pairs, the images of another, and the judge's scores of answers."""
    shutil.copytree(run_folder, folder)
    with Run.writing(folder) as run:
        records = [Score(answer, "judge@1", value) for answer, value in scores.items()]
        for name, kind, rows in (("pairs", Pair, pairs), ("response_scores", Score, records)):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir()
            write_shard(folder / name, 0, len(rows), kind, rows, Footer(work="test"))
            run.write_manifest(name, {"stage": name})
    return folder


def test_margins_are_the_pairs_own_or_of_the_scores_of_their_answers(run_folder, pairs, tmp_path):
    bare = [replace(pair, margin=None, chosen_id=f"c{row}", rejected_id=f"r{row}") for row, pair in enumerate(pairs)]
    scores = {f"{side}{row}": float(row if side == "c" else -1) for row in range(1, 6) for side in "cr"}
    folder = judged_run(tmp_path / "run", run_folder, [replace(bare[0], margin=0.25), *bare[1:]], scores)
    assert [pair.margin for pair in load_pairs(folder, margins=True)] == [0.25, 2, 3, 4, 5, 6]
    assert [pair.margin for pair in load_pairs(folder)] == [0.25, None, None, None, None, None]


@pytest.mark.parametrize("flaw", [{"chosen_id": "unknown"}, {"rejected_id": None}, {"margin": math.inf}])
def test_pairs_that_were_not_judged_are_named(run_folder, pairs, tmp_path, flaw):
    bare = replace(pairs[2], margin=None, chosen_id="c", rejected_id="r")
    folder = judged_run(tmp_path / "run", run_folder, [*pairs[:2], replace(bare, **flaw)], {"c": 2.0, "r": 1.0})
    with pytest.raises(PrefmillError, match=f"1 of 3 pairs .* no margin .* the first is pair {pairs[2].id}") as caught:
        load_pairs(folder, margins=True)
    assert caught.value.fix.startswith("set margin_weight=none")


def test_margins_are_part_of_a_digest_where_they_count(pairs):
    other = [replace(pairs[0], margin=0.6), *pairs[1:]]
    assert pairs_digest(pairs) == pairs_digest(other)
    assert pairs_digest(pairs, margins=True) != pairs_digest(other, margins=True)


def test_a_prompt_with_all_its_images_is_on_one_side(pairs):
    """A thousand prompts of three pairs; what is held out stays so with a larger share and among other prompts."""
    many = [replace(pairs[0], id=f"{row}", image_id=f"image-{row // 2}") for row in range(3000)]
    prompts = {f"image-{row // 2}": f"prompt-{row // 3}" for row in range(3000)}
    trained, held_out = hold_out(many, prompts, 0.2)
    assert sorted(int(pair.id) for pair in [*trained, *held_out]) == list(range(3000))
    assert [int(pair.id) for pair in trained] == sorted(int(pair.id) for pair in trained)
    assert 0.17 < len(held_out) / 3000 < 0.23
    assert not {prompts[pair.image_id] for pair in trained} & {prompts[pair.image_id] for pair in held_out}
    more = hold_out(many, prompts, 0.3)[1]
    assert {pair.id for pair in held_out} < {pair.id for pair in more}
    assert hold_out(many[:300], prompts, 0.2)[1] == [pair for pair in held_out if int(pair.id) < 300]


def test_nothing_is_held_out_unless_asked_for(run_folder, pairs):
    prompts = RunImages(run_folder).prompts()
    assert hold_out(pairs, prompts, 0) == (pairs, [])
    assert [prompts[pair.image_id] for pair in pairs] == [f"prompt-{row}" for row in range(6)]
    for share, some in ((0.01, pairs), (0.5, pairs[:1])):
        with pytest.raises(PrefmillError, match=rf"would hold out \d of {len(some)} pairs") as caught:
            hold_out(some, prompts, share)
        assert "eval_share" in caught.value.fix


def test_run_without_pairs_says_what_to_do(tmp_path):
    with Run.writing(tmp_path / "run") as run:
        (run.folder / "pairs").mkdir()
        run.write_manifest("pairs", {})
    with pytest.raises(PrefmillError, match="holds no pairs to train on") as caught:
        load_pairs(tmp_path / "run")
    assert "prefmill run" in caught.value.fix
    with pytest.raises(PrefmillError, match="is not a run folder"):
        load_pairs(tmp_path / "nowhere")


def test_pair_without_image_is_named(tmp_path, pairs):
    with Run.writing(tmp_path / "run") as run:
        (run.folder / "pairs").mkdir()
        write_shard(run.folder / "pairs", 0, 6, Pair, pairs, Footer(work="test"))
        run.write_manifest("pairs", {})
    with pytest.raises(
        PrefmillError, match=f"6 of 6 pairs .* pair {pairs[0].id}, which needs image {pairs[0].image_id}"
    ):
        load_pairs(tmp_path / "run")


@pytest.mark.parametrize("template", [None, PUBLISHED_TEMPLATE], ids=["micro", "published"])
def test_answer_with_its_end_counts_and_nothing_else(run_folder, pairs, processor, template):
    """Row by row: begin token once, image in full, one space before the answer, end token once, no loss elsewhere."""
    processor.chat_template = template or processor.chat_template
    dataset = preference_dataset(pairs[:2], RunImages(run_folder))
    batch = PairCollator(processor)([dataset[0], dataset[1]])
    assert batch["pixel_values"].shape == (4, 3, 56, 56)
    assert batch["pixel_values"][:2].equal(batch["pixel_values"][2:])
    answers = [pairs[0].chosen, pairs[1].chosen, pairs[0].rejected, pairs[1].rejected]
    for row, answer in enumerate(answers):
        ids = batch["input_ids"][row][batch["attention_mask"][row] == 1]
        counted = batch["input_ids"][row][batch["completion_mask"][row] == 1]
        assert processor.tokenizer.decode(counted) == f" {answer}</s>"
        question = pairs[row % 2].instruction
        image = "<image>" * 16
        assert processor.tokenizer.decode(ids) == f"<s>USER: {image}\n{question} ASSISTANT: {answer}</s>"
        assert batch["attention_mask"][row].tolist() == sorted(batch["attention_mask"][row].tolist(), reverse=True)


@pytest.mark.parametrize("template", [None, PUBLISHED_TEMPLATE], ids=["micro", "published"])
def test_system_prompt_comes_first(run_folder, pairs, processor, template):
    processor.chat_template = template or processor.chat_template
    dataset = preference_dataset(pairs[:1], RunImages(run_folder), "Be helpful.")
    batch = PairCollator(processor)([dataset[0]])
    text = processor.tokenizer.decode(batch["input_ids"][0])
    assert text.startswith("<s>Be helpful.")
    assert "'type'" not in text


def test_length_is_that_of_the_batch(run_folder, pairs, processor):
    collator, images = PairCollator(processor), RunImages(run_folder)
    sizes, dataset = images.sizes(), preference_dataset(pairs, images)
    for row, pair in enumerate(pairs):
        assert collator.length(pair, sizes[pair.image_id]) == collator([dataset[row]])["input_ids"].shape[1]


def test_long_and_misleading_pairs_are_listed_not_cut(run_folder, pairs, processor):
    collator, sizes = PairCollator(processor), RunImages(run_folder).sizes()
    lengths = [collator.length(pair, sizes[pair.image_id]) for pair in pairs]
    limit = max(lengths) - 1
    first = pairs[0]
    bad = [
        replace(first, id="spelled", chosen="an <image> of a cat"),
        replace(first, id="ended", rejected="a cat</s>"),
        replace(first, id="begun", instruction="<s>What is it?"),
        replace(first, id="blank", rejected=" \n"),
        replace(first, id="empty", chosen=""),
        replace(first, id="equal", chosen=f"{first.rejected} "),
    ]
    kept, excluded = split_trainable([*bad, *pairs], sizes, collator, limit)
    longest = pairs[lengths.index(max(lengths))]
    assert kept == [pair for pair in pairs if pair is not longest]
    assert excluded == {
        "image token in a text": ["spelled"],
        "control token in a text": ["ended", "begun"],
        "empty answer": ["blank", "empty"],
        "equal answers": ["equal"],
        f"longer than {limit} tokens": [longest.id],
    }
    with pytest.raises(PrefmillError) as caught:
        split_trainable(pairs, sizes, collator, 3)
    assert caught.value.fix == f"set max_tokens to at least {min(lengths)}"
    with pytest.raises(PrefmillError, match=r"none of the 6 pairs .* 2 empty answer, 1 equal answers"):
        split_trainable(bad, sizes, collator, limit)


def test_template_that_rewrites_the_question_is_refused(run_folder, pairs, processor):
    processor.chat_template = "{{ messages | length }}{% for message in messages %}{{ message.role }}{% endfor %}"
    with pytest.raises(PrefmillError, match="renders a question differently"):
        PairCollator(processor).length(pairs[0], (56, 56))


def test_a_processor_without_a_template_is_refused(processor):
    processor.chat_template = None
    with pytest.raises(PrefmillError, match="has no chat template"):
        PairCollator(processor)


def test_published_sample_becomes_a_batch(shared, tmp_path, processor):
    """The ten pairs that the paper's authors published, with their megapixel images."""
    sample = shared / "data" / "pdsdpo-sample"
    if not sample.is_dir():
        pytest.skip("the published sample is not here")
    candidates, pairs = [], []
    for number, entry in enumerate(json.loads((sample / "pds_dpo_format.json").read_text()), start=1):
        path = next((sample / "images").glob(f"{number}-1.*"))
        image_id = content_id("candidate", path.name)
        candidates.append(Candidate(image_id, entry["id"], 1024, 1024, path.read_bytes(), model="sd3"))
        question = entry["conversations"][0]["value"].removeprefix("<image> ")
        answers = [entry[side][1]["value"] for side in ("conversations", "rejected_conversations")]
        pairs.append(Pair(content_id("pair", entry["id"]), image_id, question, *answers))
    with Run.writing(tmp_path / "run") as run:
        for name, kind, records in (("candidates", Candidate, candidates), ("pairs", Pair, pairs)):
            (run.folder / name).mkdir()
            write_shard(run.folder / name, 0, len(records), kind, records, Footer(work="test"))
            run.write_manifest(name, {})
    images, collator = RunImages(run.folder), PairCollator(processor)
    dataset = preference_dataset(load_pairs(run.folder), images)
    for row, pair in enumerate(pairs):
        batch = collator([dataset[row]])
        counted = [batch["input_ids"][side][batch["completion_mask"][side] == 1] for side in (0, 1)]
        texts = [processor.tokenizer.decode(ids) for ids in counted]
        assert texts[0] == f" {pair.chosen.rstrip()}</s>"
        assert texts[1] == f" {pair.rejected.rstrip()}</s>" or not pair.rejected.strip()
    assert images.sizes()[pairs[0].image_id] == (1024, 1024)
