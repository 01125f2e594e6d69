"""What is asked of the compiler is known to it, or left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models import layers
from experiments.training import compiler


@pytest.fixture(autouse=True)
def no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)


def compiled(asked: dict[str, str] | None) -> jax.stages.Compiled:
    def loss(kernel: jax.Array, image: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(layers.convolve(image, kernel)) ** 2)

    shapes = (jnp.zeros((3, 3, 32, 32)), jnp.zeros((16, 16, 16, 32)))
    return jax.jit(jax.grad(loss), compiler_options=asked).lower(*shapes).compile()


def test_convolutions_take_all_cores() -> None:
    """None is left to the library that has one core for them, and values are the same."""
    plain, asked = compiled(None), compiled(compiler.options("cpu"))
    assert "ynn" in (plain.as_text() or "")
    assert "ynn" not in (asked.as_text() or "")
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(scale=0.06, size=(3, 3, 32, 32)), jnp.float32)
    image = jnp.asarray(rng.normal(size=(16, 16, 16, 32)), jnp.float32)
    np.testing.assert_allclose(asked(kernel, image), plain(kernel, image), rtol=1e-4, atol=1e-4)


def test_products_stay_where_they_were() -> None:
    x = jnp.ones((256, 256))
    asked = jax.jit(lambda x: jnp.sin(x @ x), compiler_options=compiler.options("cpu"))
    assert "ynn" in (asked.lower(x).compile().as_text() or "")


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_other_platforms_are_asked_for_nothing(platform: str) -> None:
    assert compiler.options(platform) is None


def test_what_this_version_does_not_know_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "SETTING", "xla_cpu_of_another_time")
    assert compiler.options("cpu") is None


def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", f"--{compiler.SETTING}=LIBRARY_FUSION_TYPE_DOT")
    assert compiler.options("cpu") is None
