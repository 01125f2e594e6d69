"""Entries that are not of a config are refused, with those that are near."""

import dataclasses

import pytest

from experiments import ConfigError
from experiments.classify import CLASSIFICATION
from experiments.runs import entries
from experiments.runs.experiment import check_entries


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("epoch", "config.epoch is no entry of a config; the nearest are: epochs"),
        ("lr", "config.lr is no entry of a config; the nearest are: learning_rate."),
        ("learning_rte", "the nearest are: learning_rate"),
        ("zzz", r"there are: imports, dataset, "),
    ],
)
def test_a_misspelt_entry_is_refused_with_the_nearest(name, message):
    config = {**entries.defaults(), name: 3}
    with pytest.raises(ConfigError, match=message):
        check_entries(config, CLASSIFICATION)
    check_entries(config, dataclasses.replace(CLASSIFICATION, entries=(name,)))
    check_entries(entries.defaults(), CLASSIFICATION)
