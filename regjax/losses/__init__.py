"""Base losses, and wrappers that change labels."""

from regjax.losses.cross_entropy import log_probabilities

__all__ = ["log_probabilities"]
