"""The devices that an experiment runs on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import jax


def environment() -> dict[str, str]:
    """Hardware and versions, for a report's footer."""
    device = jax.devices()[0]
    return {
        "device": f"{jax.device_count()} x {device.device_kind} ({os.cpu_count()} CPU cores)",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("jax", "flax", "optax")),
    }
