"""Activations computed twice instead of kept: the same numbers, and what attention over pairs needs arrives twice."""

from typing import Any

import pytest
import torch
from prefmill.train.preference.attention import use_pair_attention
from prefmill.train.preference.trainer import build_trainer

SETTINGS = {"batch_size": 3, "accumulation": 1, "max_steps": 3, "schedule": "constant"}


class Kept:
    """Counts the bytes that autograd keeps between forward and backward."""

    def __enter__(self):
        self.bytes, seen = 0, set()

        def pack(tensor):
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                self.bytes += tensor.numel() * tensor.element_size()
            return tensor

        self.hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *args):
        self.hooks.__exit__(*args)


@pytest.mark.parametrize("way", ["pairs", "mask"])
def test_loss_and_gradients_are_the_same(make_job, way):
    curves, weights, passes = [], [], []
    for checkpointed in (False, True):
        trainer = build_trainer(make_job(str(checkpointed), gradient_checkpointing=checkpointed, **SETTINGS))
        model: Any = trainer.adapted_model.get_base_model()
        model.attention_way = trainer.batches.way = use_pair_attention(model, way)
        attention = model.get_decoder().layers[0].self_attn
        calls = []
        attention.register_forward_hook(lambda *_, calls=calls: calls.append(torch.is_grad_enabled()))
        trainer.train()
        passes.append(sum(calls))
        curves.append([(line["loss"], line["grad_norm"]) for line in trainer.state.log_history if "loss" in line])
        weights.append({name: weight for name, weight in trainer.adapted_model.named_parameters() if "lora" in name})
    assert passes == [3, 6], "every step passes each layer once, and once more where activations are not kept"
    assert curves[0] == curves[1]
    assert curves[0][0][0] - curves[0][-1][0] > 0.05, "the losses must move for their equality to mean something"
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


def test_less_is_kept(make_job):
    kept = []
    for checkpointed in (False, True):
        trainer = build_trainer(make_job(str(checkpointed), gradient_checkpointing=checkpointed, **SETTINGS))
        trainer.train()
        inputs = trainer._prepare_inputs(trainer.batches(trainer.job.pairs))
        with Kept() as found:
            trainer.compute_loss(trainer.model, inputs)
        kept.append(found.bytes)
    assert kept[1] < kept[0] / 2
