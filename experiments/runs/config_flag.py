"""The flag `--config`: a file of Python, or config.json of a work folder, to repeat its runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from experiments import ConfigError
from experiments.runs import entries, lines
from experiments.runs.experiment import near


def define(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flag among others."""
    text = "What to compare: a file with get_config(), or the config.json of a work folder."
    config_flags.DEFINE_config_file("config", None, text, values)
    values["config"].parser = _Parser("config")


def read(path: str) -> ConfigDict:
    """The config of a work folder, with the defaults of entries that came after it.

    Args:
      path: of its config.json.

    Raises:
      OSError: the file cannot be read.
      ConfigError: it is damaged.

    Example:
      `config_flag.read("runs/digits/config.json").epochs`
    """
    Path(path).read_bytes()
    stored = lines.read_object(Path(path))
    if not stored:
        raise ConfigError(f"{path} is damaged: name the config.json of a work folder.")
    config: ConfigDict = _as_in_python(entries.complete(stored))
    return config


class _Parser(ConfigFileFlagParser):
    def parse(self, path: str) -> Any:
        """The config of either file.

        Raises:
          flags.IllegalFlagValueError: the command line names an entry that it has not.
        """
        config = read(path).lock() if path.endswith(".json") else super().parse(path)
        for argument in sys.argv:
            name = re.match(r"--?(?:no)?config\.(\w+)", argument)
            if name and isinstance(config, ConfigDict) and name[1] not in config:
                raise flags.IllegalFlagValueError(
                    f"config.{name[1]} is no entry of this config; {near(name[1], list(config))}."
                )
        return config


def _as_in_python(value: Any) -> Any:
    """JSON's objects as sections, in their order, and its lists as tuples."""
    if isinstance(value, dict):
        sections = {name: _as_in_python(each) for name, each in value.items()}
        return ConfigDict(sections, sort_keys=False)
    return tuple(map(_as_in_python, value)) if isinstance(value, list) else value
