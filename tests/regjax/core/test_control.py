"""Work that is skipped is not done, and what is done is differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from regjax.core.control import when


def test_the_value_and_its_derivatives_are_the_functions_or_zero() -> None:
    def program(needed: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sum(when(needed, lambda x: jnp.sin(x) * y, x))

    slope = jax.jit(jax.value_and_grad(program, argnums=(1, 2)))
    x, y = jnp.arange(3.0), jnp.array([2.0, -1.0, 0.5])
    value, (by_x, by_y) = slope(jnp.array(True), x, y)
    np.testing.assert_allclose(value, np.sum(np.sin(x) * y), rtol=1e-6)
    np.testing.assert_allclose(by_x, np.cos(x) * y, rtol=1e-6)
    np.testing.assert_allclose(by_y, np.sin(x), rtol=1e-6)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope(jnp.array(False), x, y)))


@pytest.mark.parametrize("jit", [True, False])
def test_what_is_not_needed_is_not_done(jit: bool) -> None:
    calls: list[float] = []

    def counted(x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda x: calls.append(float(x)), x)
        return 2 * x

    program = jax.jit(when, static_argnums=1) if jit else when
    assert program(jnp.array(False), counted, jnp.array(3.0)) == 0
    jax.effects_barrier()
    assert calls == []
    assert program(jnp.array(True), counted, jnp.array(3.0)) == 6
    jax.effects_barrier()
    assert calls == [3.0]


def test_maps_and_infinities() -> None:
    """Under `vmap` both cases are computed, and one that is not needed does no harm."""
    needed, x = jnp.array([True, False]), jnp.array([4.0, 0.0])
    mapped = jax.vmap(lambda n, x: when(n, lambda x: 1 / x, x))
    np.testing.assert_array_equal(mapped(needed, x), [0.25, 0])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.int32])
def test_the_type_is_the_functions(dtype: jnp.dtype) -> None:
    x = jnp.ones((2, 3), dtype)
    for needed in (True, False):
        found = when(jnp.array(needed), lambda x: x[:1] + x[:1], x)
        assert (found.dtype, found.shape) == (dtype, (1, 3))


def test_devices_decide_for_themselves() -> None:
    """A derivative that is summed over the devices waits for none that skipped the work."""
    mesh = jax.make_mesh((4,), ("data",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])

    def on_device(needed: jax.Array, x: jax.Array, w: jax.Array) -> jax.Array:
        return when(needed[0], lambda x, w: x * w, x, w)

    data = PartitionSpec("data")
    mapped = jax.shard_map(
        on_device, mesh=mesh, in_specs=(data, data, PartitionSpec()), out_specs=data
    )
    needed, x = jnp.array([True, False, True, False]), jnp.arange(4.0) + 1

    def total(w: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = mapped(needed, x, w)
        return jnp.sum(found), found

    slope, found = jax.jit(jax.grad(total, has_aux=True))(jnp.array(10.0))
    np.testing.assert_array_equal(found, [10, 0, 30, 0])
    assert slope == 4
