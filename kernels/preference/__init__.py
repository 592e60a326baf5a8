"""Preference losses of pairs, with their gradients, in one launch."""

from .losses import OP, Loss, Preference, check_segments, preference_loss, preference_loss_reference

OPS = (OP,)

__all__ = ["OP", "OPS", "Loss", "Preference", "check_segments", "preference_loss", "preference_loss_reference"]
