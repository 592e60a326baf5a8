"""The menu of losses against those who compute them: TRL's trainer, and our kernel."""

import dataclasses
import re
from typing import get_args

import pytest
from prefmill.kernels.preference import Loss
from prefmill.train.losses import LOSSES
from prefmill.train.settings import DPOTrainingConfig
from pydantic import ValidationError
from trl.trainer.dpo_config import DPOConfig


def test_menu_is_what_trl_computes():
    told = next(field for field in dataclasses.fields(DPOConfig) if field.name == "loss_type").metadata["help"]
    assert set(LOSSES) == set(re.findall(r"'(\w+)'", told))


def test_kernel_computes_a_part_of_the_menu():
    assert set(get_args(Loss)) < set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
def test_smoothing_is_refused_where_it_would_be_ignored(name):
    refused = {"takes none": [0.1], "takes some": [], "needs some": [0.0]}[LOSSES[name]]
    for smoothing in (0.0, 0.1):
        if smoothing in refused:
            with pytest.raises(ValidationError, match=f"loss {name} .*label_smoothing"):
                DPOTrainingConfig(loss=name, label_smoothing=smoothing)
        else:
            assert DPOTrainingConfig(loss=name, label_smoothing=smoothing).loss == name


def test_unknown_loss_is_answered_with_the_menu():
    with pytest.raises(ValidationError, match="there is no loss 'dpo'; choose one of sigmoid, hinge, ipo"):
        DPOTrainingConfig(loss="dpo")
