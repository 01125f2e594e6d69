"""Experiments with regjax: networks are trained under many losses, tested, and compared."""


class ConfigError(ValueError):
    """A config that cannot be run, in one sentence."""
