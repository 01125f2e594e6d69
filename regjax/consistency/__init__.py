"""Penalties on unlabelled examples: predictions that are sure, and the same for another view."""

from regjax.consistency.distances import divergence, prediction_entropy, squared_distance

__all__ = ["divergence", "prediction_entropy", "squared_distance"]
