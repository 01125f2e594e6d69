"""The beginning of every config; experiments/runs/entries.py says what each entry means."""

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference

from experiments.runs import entries


def base() -> ConfigDict:
    """Returns a config without losses: the defaults, which other configs fill in and change."""
    values = entries.defaults()
    # A text or a tuple, where other entries keep their type.
    values["class_weights"] = FieldReference("", field_type=object)
    return ConfigDict(values, sort_keys=False)
