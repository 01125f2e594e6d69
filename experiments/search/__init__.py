"""A search for numbers of losses and policies: `python -m experiments.search`."""
