"""What is asked of the compiler is known to it, or left out."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models import layers
from experiments.training import compiler

needs_cores = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="on one core nothing is asked for"
)


def lowered(asked: dict[str, str] | None) -> jax.stages.Compiled:
    def loss(kernel: jax.Array, image: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(layers.convolve(image, kernel)) ** 2)

    shapes = (jnp.zeros((3, 3, 32, 32)), jnp.zeros((16, 16, 16, 32)))
    return jax.jit(jax.grad(loss), compiler_options=asked).lower(*shapes).compile()


@needs_cores
def test_convolutions_take_all_cores() -> None:
    """None is left to the library that has one core for them, and values are the same."""
    plain, asked = lowered(None), lowered(compiler.options("cpu"))
    assert "ynn" in (plain.as_text() or "")
    assert "ynn" not in (asked.as_text() or "")
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(scale=0.06, size=(3, 3, 32, 32)), jnp.float32)
    image = jnp.asarray(rng.normal(size=(16, 16, 16, 32)), jnp.float32)
    np.testing.assert_allclose(asked(kernel, image), plain(kernel, image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_other_platforms_are_asked_for_nothing(platform: str) -> None:
    assert compiler.options(platform) is None


def test_what_this_version_does_not_know_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "ON_CPUS", {"xla_cpu_of_another_time": "true"})
    assert compiler.options("cpu") is None


def test_on_one_core_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert compiler.options("cpu") is None
