"""Strictness for every test: eight virtual devices, warnings as errors, no silent rank promotion.

Warnings are turned into errors in pyproject.toml. `NNX_GRAPH_MODE` and `NNX_GRAPH_UPDATES` are read
by Flax when it is imported; the tests marked `nnx` are the ones that they can change.
"""

import gc
import os
from importlib.metadata import version
from pathlib import Path

# Both must stand before the first import of jax.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    # Most of the time is spent in compiling: each of these takes some of it away.
    + " --xla_backend_optimization_level=0"
    + " --xla_cpu_parallel_codegen_split_count=1"
)
if version("jaxlib").startswith("0.10."):  # a newer one does not know it, and would end there
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from collections.abc import Iterator

import chex
import jax
import pytest
from hypothesis import HealthCheck, settings

from regjax.core.stages import REGISTRY

# Of hammered readers, 2,000 inputs in all, and always the same ones. The long form has 100,000:
# pytest --hypothesis-profile=long -k hammered
settings.register_profile(
    "default",
    max_examples=170,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile("long", settings.get_profile("default"), max_examples=8_500)

jax.config.update("jax_numpy_rank_promotion", "raise")

# Tracing makes millions of objects without cycles: to look for some takes a sixth of the time.
gc.freeze()
gc.set_threshold(100_000, 20, 100)


@pytest.fixture(autouse=True)
def _no_stage_outlives_its_test() -> Iterator[None]:
    """Takes the stages that a test or an example defines out of the registry again."""
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


_compiled: list[str] = []


def _note(event: str, _: float, **__: str | int) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(_note)


@pytest.fixture(autouse=True)
def _few_programs_at_once() -> Iterator[None]:
    """Forgets compiled programs before their memory maps are more than Linux allows a process.

    XLA crashes at 65,530 maps, which is some thousand programs. To count them takes some 20 ms, so
    that is done once in a hundred programs.
    """
    yield
    maps = Path("/proc/self/maps")
    if len(_compiled) < 100 or not maps.exists():
        return
    _compiled.clear()
    if maps.read_bytes().count(b"\n") > 40_000:
        jax.clear_caches()


@pytest.fixture(autouse=True)
def _traces_are_counted_anew() -> None:
    """Each test may trace a function as often as `chex.assert_max_traces` says of it."""
    chex.clear_trace_counter()


@pytest.fixture
def x64() -> Iterator[None]:
    """Float64, and less time to compile, of which there is much."""
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.enable_x64(True):
        yield
    jax.config.update("jax_disable_most_optimizations", False)
