"""The flag `--config`: a file of Python, or the config.json of a work folder, to repeat its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from experiments import ConfigError
from experiments.runs import entries, lines


def define() -> None:
    """Defines the flag."""
    text = "What to compare: a file with get_config(), or the config.json of a work folder."
    config_flags.DEFINE_config_file("config", None, text)
    flags.FLAGS["config"].parser = _Parser("config")


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
    return ConfigDict(_tuples(entries.complete(stored)), sort_keys=False)


class _Parser(ConfigFileFlagParser):  # type: ignore[misc]
    def parse(self, path: str) -> Any:
        """The config of either file."""
        return read(path).lock() if path.endswith(".json") else super().parse(path)


def _tuples(value: Any) -> Any:
    """With tuples, as configs have them, in the place of JSON's lists."""
    if isinstance(value, dict):
        return {name: _tuples(each) for name, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
