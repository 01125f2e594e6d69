"""The devices that an experiment runs on: how to compile for them, and what they are."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import jax


def compiler_options() -> dict[str, bool | str]:
    """Options of `jax.jit` for the default platform."""
    if jax.default_backend() != "cpu":
        return {}
    # XLA's newer library of CPU kernels is slower on these networks than the code it replaced.
    return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_ELTWISE"}


def environment() -> dict[str, str]:
    """Hardware and versions, for a report's footer."""
    device = jax.devices()[0]
    return {
        "device": f"{jax.device_count()} x {device.device_kind} ({os.cpu_count()} CPU cores)",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("jax", "flax", "optax")),
    }
