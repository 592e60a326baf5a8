"""The trainer: how its learning rate goes."""

import pytest
import torch
from prefmill.micro.teach.training import Trainer


def test_the_learning_rate_is_held_and_then_falls():
    weight = torch.nn.Linear(1, 1)
    trainer = Trainer("x", {"m": weight}, 100, 1.0, lambda report: None, warm_up=10, hold=0.5)
    rates = []
    for number in range(100):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.step(number, weight(torch.ones(1)).sum())
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:51] == pytest.approx([1.0] * 42)
    assert rates[75] == pytest.approx(0.51, abs=0.01)
    assert rates[99] < 0.03
