"""A search for numbers of a loss and for policies of augmentation: `python -m experiments.search`."""
