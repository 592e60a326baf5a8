"""Guidance and one sampling step of a flow-matching model."""

from .step import OP, guided_step, guided_step_reference
from .stochastic import OP as STOCHASTIC
from .stochastic import StochasticStep, stochastic_step, stochastic_step_reference

OPS = (OP, STOCHASTIC)

__all__ = [
    "OP",
    "OPS",
    "StochasticStep",
    "guided_step",
    "guided_step_reference",
    "stochastic_step",
    "stochastic_step_reference",
]
