"""Which judges: the settings of a text reward, of models that are asked for a verdict, and of several at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ...base.settings import Weight
from ...engine.responders.settings import ModelChoice
from ...engine.scorers.attributes import ATTRIBUTES
from ...engine.settings import Sampling


def _are_attributes(weights: dict[str, float]) -> dict[str, float]:
    for name in weights:
        if name not in ATTRIBUTES:
            raise ValueError(f"there is no attribute {name!r}: choose from {', '.join(ATTRIBUTES)}")
    if weights and not any(weights.values()):
        raise ValueError("all weights are 0: leave them out, or give one that counts")
    return weights


AttributeWeights = Annotated[dict[str, Weight], AfterValidator(_are_attributes)]
"""By the names of `ATTRIBUTES`; none: the score is the model's own, gated by the prompt."""

Context = Literal["instruction", "prompt"]
"""What a judge reads before the answer: the instruction, or the image's text-to-image prompt as well."""


class JudgeChoice(ModelChoice):
    """One of several judges: a text reward, or a chat model that sees the image and fills in a form."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="names the folder of its verdicts")
    kind: Literal["reward", "rating", "comparison"] = Field(
        default="rating",
        description="reward: a text reward, which reads no image; rating: a model that sees the image gives every "
        "answer 1 to 10; comparison: it compares every two answers, in both orders",
    )
    context: Context = "instruction"
    weights: AttributeWeights = Field(default={}, description="of a reward, as in `judge`")
    sampling: Sampling = Sampling(max_new_tokens=256)
    longest_answer: int = Field(default=8000, ge=100, description="characters of an answer that a model is shown")

    @model_validator(mode="after")
    def _has_what_its_kind_takes(self) -> JudgeChoice:
        if self.kind == "reward" and self.backend != "transformers":
            raise ValueError(f"a reward is run here, not by {self.backend}: leave backend out")
        if self.kind != "reward" and self.weights:
            raise ValueError(f"weights are of a reward's attributes: {self.name} is a {self.kind}")
        return self
