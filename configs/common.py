"""The beginning of every config; experiments/runs/entries.py says what each entry means."""

from ml_collections import ConfigDict

from experiments.runs import entries


def base() -> ConfigDict:
    """Returns a config without losses: the defaults, which other configs fill in and change."""
    return ConfigDict(entries.defaults(), sort_keys=False)
