"""Settings of group PPO that do not fit together are refused."""

import pytest
from prefmill.train.generator.settings import GeneratorTrainingConfig
from pydantic import ValidationError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ppo": {"prompts": 3, "updates": 2}}, "multiple of updates"),
        ({"ppo": {"prompts": 6, "updates": 2}, "processes": 2}, "2 processes times 2 updates"),
        ({"steps": 7}, "multiple of the 2"),
    ],
)
def test_settings_that_do_not_divide(settings, message):
    with pytest.raises(ValidationError, match=message):
        GeneratorTrainingConfig.model_validate({"method": "ppo", **settings})
