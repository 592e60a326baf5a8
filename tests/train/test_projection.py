"""What a training would take, against what it takes: the real collator's batches, the real model's weights."""

from dataclasses import replace

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from peft import get_peft_model
from prefmill.base.errors import PrefmillError
from prefmill.train.accelerators import accelerator_named
from prefmill.train.adapter import lora_config, lora_targets
from prefmill.train.flops import LADDER, PairLengths, training_flops
from prefmill.train.inputs import read_inputs
from prefmill.train.job import TrainingJob
from prefmill.train.memory import training_memory
from prefmill.train.preference.batches import PairBatches
from prefmill.train.projection import UTILISATION, pair_lengths, project, steps_per_epoch
from prefmill.train.shape import shape_of_folder
from transformers import AutoModelForImageTextToText


@pytest.fixture
def batches(run_folder, model_folder, tmp_path):
    """The real collator of a configuration, and its pairs."""

    def make(config):
        read = read_inputs(config, run_folder, model_folder)
        given = (config, model_folder, read.collator, read.pairs, read.images, tmp_path, None, "cpu", "float32", 0.0)
        return PairBatches(TrainingJob(*given), "mask"), read.pairs

    return make


@pytest.mark.parametrize("changes", [{}, {"image_weight": 1.0}], ids=str)
def test_tokens_are_those_of_the_real_batches(run_folder, settings, batches, changes):
    config = settings(max_steps=None, batch_size=2, epochs=2, precision="float32", **changes)
    collate, pairs = batches(config)
    read = [collate(pairs[start : start + 2]) for start in (0, 2, 4)]
    plan = project(run_folder, config)
    assert (plan.pairs, plan.steps_per_epoch, plan.steps, plan.pairs_per_step) == (6, 2, 4, 4)
    assert plan.chosen.tokens == 2 * sum(batch["tokens"] for batch in read)
    assert plan.chosen.name == ("image" if changes else "shared")
    longest = sorted(collate([pair])["tokens"] for pair in pairs)[-2:]
    assert plan.longest_batch == sum(longest)
    names = {pair.image_id for pair in pairs} | {collate.negatives.name(pair) for pair in pairs if collate.negatives}
    assert plan.vision_cache == sum(collate.image_tokens(name) for name in names) * 64 * 4  # the tiny model's width


def test_padded_rows_are_those_of_the_real_collator(run_folder, settings, batches):
    config = settings(max_steps=None, batch_size=3, epochs=1, backend="trl")
    collate, pairs = batches(config)
    rows = []
    for three in (pairs[:3], pairs[3:]):
        sides = [[pair.prompt + pair.chosen, pair.prompt + pair.rejected] for pair in _lengths(collate, three)]
        rows.append(2 * 3 * max(map(max, sides)))
    plan = project(run_folder, config)
    assert plan.chosen.tokens == sum(rows)
    assert plan.vision_cache == 0


def _lengths(collate, pairs):
    return [PairLengths(*collate.tokens(pair).spans) for pair in pairs]


@pytest.mark.parametrize("pairs", [5, 6, 17])
@pytest.mark.parametrize("shape", [(1, 1, 4), (2, 3, 2), (4, 2, 1)], ids=str)
def test_steps_are_those_of_the_real_data_loader(settings, pairs, shape):
    batch_size, processes, accumulation = shape
    config = settings(batch_size=batch_size, processes=processes, accumulation=accumulation)
    sampler = torch.utils.data.BatchSampler(range(pairs), batch_size, drop_last=False)
    steps = -(-len(list(BatchSamplerShard(sampler, processes, 0))) // accumulation)
    assert steps_per_epoch(pairs, config) == steps


def test_hours_and_cost_by_hand(run_folder, settings, model_folder):
    config = settings(dollars_per_hour=2.0, epochs=3, max_steps=None)
    gpu = accelerator_named("a100-80gb")
    plan, read = project(run_folder, config, gpu), read_inputs(config, run_folder, model_folder)
    shape = shape_of_folder(model_folder)
    lengths = list(pair_lengths(read, read.pairs, shape, None))
    assert {(pair.patches, pair.tiles) for pair in lengths} == {(16, 1)}  # 56 pixels in patches of 14
    assert [way.name for way in plan.ways] == list(LADDER)
    for way in plan.ways:
        flops = training_flops(shape, lengths, LADDER[way.name], rank=4, epochs=3, theirs_on_answers=True).total
        assert way.flops == pytest.approx(flops)
        assert way.hours == pytest.approx(flops / (312e12 * UTILISATION) / 3600)
        assert way.cost == pytest.approx(2 * flops / (312e12 * UTILISATION) / 3600)
    assert plan.precision == "bfloat16"
    without = project(run_folder, config)
    assert [(way.hours, way.cost) for way in without.ways] == [(None, None)] * len(LADDER)
    assert project(run_folder, settings(), gpu).chosen.cost is None


def test_max_steps_end_a_training_before_its_epochs(run_folder, settings):
    plan = project(run_folder, settings(max_steps=2, accumulation=1))
    assert (plan.steps, plan.steps_per_epoch, plan.epochs) == (2, 6, pytest.approx(1 / 3))


@pytest.mark.parametrize(("dtype", "number"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_memory_of_weights_is_the_real_models(model_folder, settings, dtype, number):
    config, shape = settings(processes=2), shape_of_folder(model_folder)
    model = AutoModelForImageTextToText.from_pretrained(model_folder, dtype=dtype)
    memory = training_memory(shape, config, tokens=100, number=number)
    assert memory.weights == sum(weight.nbytes for weight in model.parameters())
    adapted = get_peft_model(model, lora_config(config, lora_targets(model)))
    learning = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert (memory.adapter, memory.gradients, memory.optimizer) == (
        number * learning,
        number * learning / 2,
        12 * learning / 2,
    )
    plain = training_memory(shape, settings(processes=2, zero_stage=0), tokens=100, number=number)
    assert (plain.adapter, plain.gradients, plain.optimizer) == (4 * learning, 4 * learning, 8 * learning)


def test_four_bits_and_activations_by_hand(settings, model_folder):
    shape = replace(
        shape_of_folder(model_folder), parameters=10_000, quantisable=6400, layers=32, width=4096, adapter_weights=0
    )
    memory = training_memory(shape, settings(base_bits=4), tokens=1000, number=2)
    # 100 blocks of 64: 32 bytes and a scale of one byte each, which have a float32 per 256 blocks
    assert memory.weights == pytest.approx(2 * 3600 + 3200 + 100 + 100 * 4 / 256)
    assert memory.activations == 34 * 1000 * 4096 * 32
    assert memory.checkpointed == 2 * 1000 * 4096 * 32 + 34 * 1000 * 4096
    assert memory.total(checkpointing=True) == pytest.approx(memory.weights + memory.checkpointed)


def test_pairs_that_are_left_out_are_counted_and_nothing_is_written(run_folder, settings):
    before = sorted(run_folder.rglob("*"))
    plan = project(run_folder, settings(max_tokens=57))
    assert (plan.pairs, plan.excluded) == (3, {"longer than 57 tokens": 3})
    assert sorted(run_folder.rglob("*")) == before
    text = " ".join(plan.assumptions)
    assert "projection" in text
    assert "measured" in text


def test_what_trl_will_train_instead_is_said_before(run_folder, settings):
    plan = project(run_folder, settings(loss="aot", backend="shared"))
    assert plan.backend == "trl"
    assert any("trained by TRL instead of backend=shared" in text and "aot" in text for text in plan.assumptions)
    assert not any("TRL" in text for text in project(run_folder, settings(backend="shared")).assumptions)


def test_a_model_that_is_not_here_is_not_downloaded(run_folder, settings):
    with pytest.raises(PrefmillError, match="no-one/no-model' is not downloaded") as caught:
        project(run_folder, settings(model="no-one/no-model"))
    assert "--exclude '*.safetensors'" in caught.value.fix
