"""What is split over the devices of an axis comes together again."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from regjax.core.axes import by_class, columns, everywhere, is_mapped, is_split

AUTO = (jax.sharding.AxisType.Auto,)
MESH = jax.make_mesh((4,), ("data",), AUTO, devices=jax.devices()[:4])
DATA, EVERYWHERE = PartitionSpec("data"), PartitionSpec()


def shard_map(function: Any, *x: jax.Array, out: PartitionSpec = DATA) -> jax.Array:
    mapped = jax.shard_map(function, mesh=MESH, in_specs=(DATA,) * len(x), out_specs=out)
    return jax.jit(mapped)(*x)


def pmap(function: Any, *x: jax.Array) -> jax.Array:
    mapped = jax.pmap(function, "data", devices=list(MESH.devices))
    return mapped(*(a.reshape(4, -1, *a.shape[1:]) for a in x))


def test_an_axis_is_mapped_inside_only() -> None:
    assert not is_mapped("data")
    with jax.set_mesh(MESH):
        assert not is_mapped("data")
    seen: list[tuple[bool, ...]] = []

    def look(x: jax.Array) -> jax.Array:
        seen.append((is_mapped("data"), is_mapped("model"), is_split(2, 8, "data")))
        seen.append((is_split(8, 8, "data"), is_split(2, 8, "model"), is_split(2, 8, None)))
        return x

    for mapped in (shard_map, pmap):
        seen.clear()
        mapped(look, jnp.arange(8.0))
        assert seen[:2] == [(True, False, True), (False, False, False)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bool_])
def test_all_devices_see_all_examples_in_order(dtype: Any) -> None:
    x = (jnp.arange(24) % 5).reshape(8, 3).astype(dtype)
    gather = functools.partial(everywhere, axis_name="data")
    np.testing.assert_array_equal(shard_map(gather, x, out=EVERYWHERE), x)
    np.testing.assert_array_equal(pmap(gather, x), np.broadcast_to(x, (4, 8, 3)))


def test_gradients_come_back_to_the_devices() -> None:
    x, weight = jnp.arange(8.0), jnp.arange(8.0) ** 2

    def objective(x: jax.Array) -> jax.Array:
        return shard_map(lambda x: everywhere(x, "data") ** 2 @ weight, x, out=EVERYWHERE)

    np.testing.assert_allclose(jax.grad(objective)(x), 2 * x * weight)


def test_every_device_keeps_its_own_classes() -> None:
    x = jnp.arange(24).reshape(3, 8)
    assert columns(x, 8, None) is x

    def own(_: jax.Array) -> jax.Array:
        return columns(x, 2, "data")[None]

    for found in (shard_map(own, x[0]), pmap(own, x[0])[:, 0]):
        np.testing.assert_array_equal(np.concatenate(list(found), 1), x)
    for classes in (8, 12):
        with pytest.raises(ValueError, match=f"3 classes, but the labels have {classes}"):
            shard_map(lambda _, n=classes: columns(jnp.ones(n), 3, "data"), x[0]) if (
                classes == 8
            ) else columns(jnp.ones(classes), 3, None)


def test_functions_run_where_their_classes_are() -> None:
    def scaled(kept: jax.Array, x: jax.Array) -> jax.Array:
        return kept * columns(x, len(kept), "data")

    kept, x = jnp.arange(8.0), jnp.arange(8.0) + 1
    assert by_class(scaled, None, 8, DATA, to=DATA) is scaled
    assert by_class(scaled, "data", 1, DATA, to=DATA) is scaled
    with jax.set_mesh(MESH):
        run = jax.jit(lambda k, x: by_class(scaled, "data", 8, DATA, to=DATA)(k, x))
        found = run(kept, x)
        assert found.sharding.spec == DATA
        with pytest.raises(
            ValueError, match=r"6 classes cannot be split evenly over the 4 devices"
        ):
            by_class(scaled, "data", 6, DATA, to=DATA)
        with pytest.raises(ValueError, match=r"axis_name='model' .* axes are \['data'\]"):
            by_class(scaled, "model", 8, DATA, to=DATA)
    np.testing.assert_array_equal(found, kept * x)
    with pytest.raises(ValueError, match=r"axis_name='data' is neither .* axes are \[\]"):
        by_class(scaled, "data", 8, DATA, to=DATA)

    def inside(kept: jax.Array, x: jax.Array) -> jax.Array:
        x = everywhere(x, "data")
        return by_class(scaled, "data", 8, DATA, to=DATA)(kept, x)

    np.testing.assert_array_equal(shard_map(inside, kept, x), kept * x)


def test_explicit_axes_are_refused() -> None:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh), pytest.raises(ValueError, match="'data' of the mesh must be of the"):
        by_class(lambda kept: kept, "data", 8, DATA, to=DATA)
