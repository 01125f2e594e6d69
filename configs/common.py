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


def check(arg: str, *known: str) -> None:
    """Raises ValueError for an argument that is none of these, nor "" nor "smoke"."""
    if arg not in ("", *known, "smoke"):
        names = ", ".join(map(repr, ("", *known, "smoke")))
        raise ValueError(f"The config's argument is {arg!r}; it can be one of: {names}.")


def with_isda(term: str, isda: str, weight: float) -> str:
    """ISDA's loss with a term of unlabelled images, as in its eq. (19); alone without a term."""
    return f"{isda} | semantic_consistency(weight={weight}){term}" if term else isda


def shrink(config: ConfigDict, model: str) -> None:
    """Changes a config to the embedded digits and a small network, for two epochs."""
    config.dataset = "digits"
    config.mean = config.std = ()
    config.train_sizes = (10,)
    config.model = model
    config.seeds = 1
    config.epochs = 2
    config.batch_size = 25
    config.schedule = "constant"
    config.learning_rate = 0.01
    config.evaluate_epochs = 0.0
