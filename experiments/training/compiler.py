"""What XLA's compiler is asked for, beside what it does by itself."""

import functools
import os

import jax

# XLA's library YNN computes a convolution of fewer than 128 filters on one core, and XLA itself on
# all of them: YNN keeps matrix products and sums.
SETTING = "xla_cpu_experimental_ynn_fusion_type"
KEPT = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"


def options(platform: str) -> dict[str, str] | None:
    """The `compiler_options` of `jax.jit` for a platform.

    Args:
      platform: "cpu", "gpu" or "tpu".

    Returns:
      What is asked for; None where that is nothing, where this version of XLA does not know it, and
      where the environment's XLA_FLAGS say something of their own.

    Example:
      `jax.jit(function, compiler_options=compiler.options(platform()))`
    """
    given = SETTING in os.environ.get("XLA_FLAGS", "")
    return {SETTING: KEPT} if platform == "cpu" and not given and _known(SETTING, KEPT) else None


@functools.cache
def _known(setting: str, value: str) -> bool:
    """Whether this version of XLA, which promises none of them, has the setting."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        try:
            jax.jit(lambda x: x, compiler_options={setting: value}).lower(0.0).compile()
        except jax.errors.JaxRuntimeError:
            return False
    return True
