"""What is published of the chips that pods are made of, and the topologies that there are.

The figures are those of Google's pages, cloud.google.com/tpu/docs/v4, v5e, v5p and v6e, of one
chip: bf16 FLOP/s, HBM and its bandwidth, and what the links between chips carry one way.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from jax.experimental import topologies

from experiments import ConfigError


class Chip(NamedTuple):
    """One chip.

    Attributes:
      peak: FLOP/s of products of bfloat16.
      memory: bytes of HBM.
      bandwidth: bytes/s of HBM.
      links: bytes/s that all its links to other chips carry one way.
      shapes: the topologies of its pods.
      options: what the compiler must be told besides.
    """

    peak: float
    memory: float
    bandwidth: float
    links: float
    shapes: tuple[str, ...]
    options: dict[str, Any] = {}  # noqa: RUF012 nobody writes to it


FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
DEEP = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16")
CHIPS = {
    "v4": Chip(275e12, 32e9, 1200e9, 300e9, DEEP, {"chip_config_name": "megacore"}),
    "v5e": Chip(197e12, 16e9, 819e9, 200e9, FLAT),
    "v5p": Chip(459e12, 95e9, 2765e9, 600e9, DEEP),
    "v6e": Chip(918e12, 32e9, 1640e9, 448e9, FLAT),
}
# What libtpu would ask a TPU machine's metadata server and, in vain, complain of.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no lock file: nobody holds a chip
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}
MISSING = "libtpu, the compiler for TPUs, is not installed: pip install -e '.[pod]' installs it."


def find(topology: str) -> Chip:
    """The chip of a topology such as "v5e:4x4".

    Raises:
      ConfigError: there is no such topology.

    Example:
      `find("v5e:4x4").memory == 16e9`
    """
    name, _, shape = topology.partition(":")
    if name not in CHIPS or shape not in CHIPS[name].shapes:
        known = "; ".join(f"{each}: {', '.join(chip.shapes)}" for each, chip in CHIPS.items())
        raise ConfigError(
            f"--topology={topology} is none that can be planned for, such as v5e:4x4; known are, "
            f"by chip, {known}."
        )
    return CHIPS[name]


def devices(topology: str) -> list[Any]:
    """The chips of a topology as devices that can be compiled for and do nothing else.

    Raises:
      ConfigError: there is no such topology, or libtpu is not installed.

    Example:
      `len(devices("v5e:4x4")) == 16`
    """
    chip = find(topology)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        found = topologies.get_topology_desc(topology, "tpu", **chip.options)
    except RuntimeError as error:
        if "not installed" not in str(error):
            raise
        raise ConfigError(MISSING) from None
    return list(found.devices)
