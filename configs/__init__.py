"""Experiments as data, one folder a paper; each has a quick `:smoke` form."""
