"""What XLA's compiler is asked for, beside what it does by itself."""

import functools
import os

import jax

# XLA's library YNN computes a convolution of fewer than 128 filters on one core, and XLA itself
# on all: YNN keeps the sums.
ON_CPUS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


def options(platform: str) -> dict[str, str] | None:
    """`jax.jit`'s `compiler_options` for a platform, "cpu", "gpu" or "tpu".

    Example:
      `jax.jit(function, compiler_options=compiler.options(platform()))`
    """
    several = len(os.sched_getaffinity(0)) > 1 if hasattr(os, "sched_getaffinity") else True
    return ON_CPUS if platform == "cpu" and several and _known(*ON_CPUS.items()) else None


@functools.cache
def _known(*settings: tuple[str, str]) -> bool:
    """Whether this version of XLA, which promises none of them, has these settings."""
    with jax.default_device(jax.devices("cpu")[0]):
        try:
            jax.jit(lambda x: x, compiler_options=dict(settings)).lower(0.0).compile()
        except jax.errors.JaxRuntimeError:
            return False
    return True
