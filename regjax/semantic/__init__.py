"""ISDA: statistics of the features by class, the two bounds, and the same by sampling."""

from regjax.semantic.bounds import consistency_bound, differences, upper_bound

__all__ = ["consistency_bound", "differences", "upper_bound"]
