"""Guidance and one sampling step of a flow-matching model."""

from .step import OP, StochasticStep, guided_step, guided_step_reference, stochastic_step

__all__ = ["OP", "StochasticStep", "guided_step", "guided_step_reference", "stochastic_step"]
